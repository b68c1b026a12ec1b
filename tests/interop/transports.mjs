// Every way in that the official client knows: polling alone, WebSocket alone, and polling that becomes a WebSocket.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, enters, next, tokens } from "./house.mjs";

const quick = { reconnectionDelay: 50, reconnectionDelayMax: 100 };
// What a message of this many characters takes no longer fits into one small packet or frame.
const long = "ü✓x".repeat(1000);

for (const [what, transports, ending] of [
  ["polling only", ["polling"], "polling"],
  ["WebSocket only", ["websocket"], "websocket"],
  ["the default", ["polling", "websocket"], "websocket"],
]) {
  test(`${what}: chats, is acked, hears a burst in order, and ends on ${ending}`, async () => {
    const alice = client(tokens.alice, { transports });
    const upgraded = transports.length > 1 ? next(alice.io.engine, "upgrade") : undefined;
    await next(alice, "welcome");
    const bob = await enters("bob", { transports });
    // Said while the transports change places.
    const heard = [];
    bob.on("message", ({ data }) => heard.push(data.text));
    const sent = [...Array.from({ length: 15 }, (_, n) => `${what} ${n}`), long];
    const last = next(bob, "message", ({ data }) => data.text === long);
    const acks = await Promise.all(sent.map((text) => alice.emitWithAck("message", { text })));
    await last;
    assert.deepEqual(heard, sent);
    assert.deepEqual(acks.map(({ ok }) => ok), sent.map(() => true));
    const places = acks.map(({ seq }) => seq);
    assert.deepEqual(places, places.map((_, n) => places[0] + n));
    await upgraded;
    assert.equal(alice.io.engine.transport.name, ending);
    alice.disconnect();
    bob.disconnect();
  });

  test(`${what}: the server closes the transport, and the client comes back by itself`, async () => {
    const alice = await enters("alice", { transports, ...quick });
    const before = alice.id;
    const bob = await enters("bob");
    const dropped = next(alice, "disconnect");
    const back = next(alice, "connect");
    // A message that is no Socket.IO packet: the server ends this client's connection, and nobody else's.
    alice.io.engine.write("9 is no packet");
    assert.match(await dropped, /transport close|transport error/);
    await back;
    assert.equal(alice.recovered, true);
    assert.equal(alice.id, before);
    const heard = next(alice, "message", ({ data }) => data.text === `welcome back to ${what}`);
    bob.emit("message", { text: `welcome back to ${what}` });
    await heard;
    assert.equal(bob.connected, true);
    alice.disconnect();
    bob.disconnect();
  });
}

test("a namespace that is not there is refused, and the one that is lives on", async () => {
  const alice = await enters("alice");
  const other = alice.io.socket("/admin");
  try {
    const refused = next(other, "connect_error");
    // The socket connects by itself too, so the server gets CONNECT twice.
    other.connect();
    assert.equal((await refused).message, "Invalid namespace");
  } finally {
    // The scripts' own clean-up knows no second namespace.
    other.disconnect();
  }
  assert.equal(other.connected, false);
  assert.equal((await alice.emitWithAck("message", { text: "still here" })).ok, true);
  alice.disconnect();
});
