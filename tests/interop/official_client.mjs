// The official client, unmodified, under control of a test: reads one JSON command per line and writes one JSON line per event.
// Commands use the public API, except `drop`. Driven by tests/support/official_client.rs. Run:
// `node official_client.mjs URL TOKEN OPTIONS`.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, token, options] = process.argv.slice(2);
const extraHeaders = token ? { Cookie: `auth_token=${token}` } : {};
const socket = io(url, { autoConnect: false, extraHeaders, ...JSON.parse(options ?? "{}") });
const report = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

socket.on("connect", () => {
  report({ connected: { id: socket.id, recovered: socket.recovered, transport: socket.io.engine.transport.name } });
  socket.io.engine.once("upgrade", ({ name }) => report({ upgraded: name }));
});
socket.on("disconnect", (reason) => report({ disconnected: reason }));
socket.on("connect_error", ({ message, data }) => report({ refused: { message, data: data ?? null } }));
socket.onAny((event, ...args) => report({ event, args }));

const commands = {
  connect: () => socket.connect(),
  // A test decides how long the gap is: it disables reconnection before a drop.
  disable_reconnect: () => socket.io.reconnection(false),
  enable_reconnect: () => socket.io.reconnection(true),
  // Ends the transport as a lost network does: without a closing packet of Socket.IO or Engine.IO.
  drop: () => {
    const { transport } = socket.io.engine;
    if (transport.ws) transport.ws._socket.destroy();
    else socket.io.engine.close();
  },
  leave: () => socket.disconnect(),
  emit: ({ event, payload }) => socket.emit(event, payload),
  emit_with_ack: async ({ id, event, payload }) => {
    try {
      report({ answer: id, ack: await socket.timeout(20_000).emitWithAck(event, payload) });
    } catch (error) {
      report({ answer: id, ack: { failed: error.message } });
    }
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
// The test has exited.
lines.on("close", () => process.exit(0));
