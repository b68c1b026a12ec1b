// The official client on strings: one JSON command per line comes in, one JSON line per thing that happened goes out. Nothing of
// the client is changed; what a command does is what any program may do with it. Driven by tests/stage/puppet.rs, run as
// `node puppet.mjs URL TOKEN OPTIONS`.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, token, options] = process.argv.slice(2);
const extraHeaders = token ? { Cookie: `auth_token=${token}` } : {};
const socket = io(url, { autoConnect: false, extraHeaders, ...JSON.parse(options ?? "{}") });
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

socket.on("connect", () => {
  tell({ connected: { id: socket.id, recovered: socket.recovered, transport: socket.io.engine.transport.name } });
  socket.io.engine.once("upgrade", ({ name }) => tell({ upgraded: name }));
});
socket.on("disconnect", (reason) => tell({ disconnected: reason }));
socket.on("connect_error", ({ message, data }) => tell({ refused: { message, data: data ?? null } }));
socket.onAny((event, ...args) => tell({ event, args }));

const commands = {
  connect: () => socket.connect(),
  // Comes back only when told to, so that a test decides how long the gap is.
  stay_away: () => socket.io.reconnection(false),
  come_back: () => socket.io.reconnection(true),
  // The transport ends as it does when a page loses its network: no farewell of Socket.IO or Engine.IO.
  drop: () => {
    const { transport } = socket.io.engine;
    if (transport.ws) transport.ws._socket.destroy();
    else socket.io.engine.close();
  },
  // What a server does to the client that sends an event which ends in a string: the client takes it for its offset.
  take_for_an_offset: ({ text }) => {
    socket.io.engine.transport.onPacket({ type: "message", data: `2["volatile",${JSON.stringify(text)}]` });
  },
  leave: () => socket.disconnect(),
  emit: ({ event, payload }) => socket.emit(event, payload),
  ask: async ({ id, event, payload }) => {
    try {
      tell({ answer: id, ack: await socket.timeout(20_000).emitWithAck(event, payload) });
    } catch (error) {
      tell({ answer: id, ack: { failed: error.message } });
    }
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
// Whoever pulled the strings is gone.
lines.on("close", () => process.exit(0));
