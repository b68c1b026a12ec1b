// Every transport of the official client: polling only, WebSocket only, and polling with an upgrade to WebSocket.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, connect, next, tokens } from "./support.mjs";

const quick = { reconnectionDelay: 50, reconnectionDelayMax: 100 };
// A message of this many characters does not fit into one small packet or frame.
const long = "ü✓x".repeat(1000);

for (const [what, transports, ending] of [
  ["polling only", ["polling"], "polling"],
  ["WebSocket only", ["websocket"], "websocket"],
  ["the default", ["polling", "websocket"], "websocket"],
]) {
  test(`${what}: messages are acked, a burst arrives in order, and the transport is ${ending}`, async () => {
    const alice = client(tokens.alice, { transports });
    const upgraded = transports.length > 1 ? next(alice.io.engine, "upgrade") : undefined;
    await next(alice, "welcome");
    const bob = await connect("bob", { transports });
    // Sent during the upgrade.
    const received = [];
    bob.on("message", ({ data }) => received.push(data.text));
    const sent = [...Array.from({ length: 15 }, (_, n) => `${what} ${n}`), long];
    const last = next(bob, "message", ({ data }) => data.text === long);
    const acks = await Promise.all(sent.map((text) => alice.emitWithAck("message", { text })));
    await last;
    assert.deepEqual(received, sent);
    assert.deepEqual(acks.map(({ ok }) => ok), sent.map(() => true));
    const seqs = acks.map(({ seq }) => seq);
    assert.deepEqual(seqs, seqs.map((_, n) => seqs[0] + n));
    await upgraded;
    assert.equal(alice.io.engine.transport.name, ending);
    alice.disconnect();
    bob.disconnect();
  });

  test(`${what}: the server closes the transport, and the client reconnects by itself`, async () => {
    const alice = await connect("alice", { transports, ...quick });
    const before = alice.id;
    const bob = await connect("bob");
    const dropped = next(alice, "disconnect");
    const again = next(alice, "connect");
    // A message that is not a Socket.IO packet: the server closes this client's connection only.
    alice.io.engine.write("9 is no packet");
    assert.match(await dropped, /transport close|transport error/);
    await again;
    assert.equal(alice.recovered, true);
    assert.equal(alice.id, before);
    const received = next(alice, "message", ({ data }) => data.text === `after the drop, ${what}`);
    bob.emit("message", { text: `after the drop, ${what}` });
    await received;
    assert.equal(bob.connected, true);
    alice.disconnect();
    bob.disconnect();
  });
}

test("an unknown namespace is refused, and the connection of the other namespace stays open", async () => {
  const alice = await connect("alice");
  const other = alice.io.socket("/admin");
  try {
    const refused = next(other, "connect_error");
    // The socket also connects by itself, so the server receives CONNECT twice.
    other.connect();
    assert.equal((await refused).message, "Invalid namespace");
  } finally {
    // The clean-up of support.mjs covers the main namespace only.
    other.disconnect();
  }
  assert.equal(other.connected, false);
  assert.equal((await alice.emitWithAck("message", { text: "still here" })).ok, true);
  alice.disconnect();
});
