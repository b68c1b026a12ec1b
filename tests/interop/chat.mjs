// Two official clients exchange messages: each receives the other's messages and not its own, presence and typing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, next } from "./support.mjs";

test("alice and bob exchange messages", async () => {
  const alice = await connect("alice");
  const seen = next(alice, "presence", ({ online }) => online.includes("bob"));
  const bob = await connect("bob");
  assert.deepEqual((await seen).online, ["alice", "bob"]);

  const own = [];
  alice.on("message", ({ from }) => own.push(from));
  const received = next(bob, "message");
  alice.emit("message", { text: "hello, bob" });
  const { id, seq, room, from, data, timestamp } = await received;
  assert.deepEqual({ seq, room, from, data }, { seq: 1, room: "lobby", from: "alice", data: { text: "hello, bob" } });
  assert.ok(typeof id === "string" && !Number.isNaN(Date.parse(timestamp)));

  const reply = next(alice, "message");
  bob.emit("message", { text: "hello, alice" });
  assert.equal((await reply).data.text, "hello, alice");
  assert.deepEqual(own, ["bob"]);

  const typing = next(bob, "typing", ({ users }) => users.length > 0);
  alice.emit("typing", { isTyping: true });
  assert.deepEqual(await typing, { users: ["alice"], room: "lobby" });

  const gone = next(alice, "presence", ({ online }) => !online.includes("bob"));
  bob.disconnect();
  await gone;
  alice.disconnect();
});

test("a burst of messages arrives in order, each message once", async () => {
  const alice = await connect("alice");
  const bob = await connect("bob");
  const received = [];
  bob.on("message", ({ data }) => received.push(data.text));
  const sent = Array.from({ length: 15 }, (_, n) => `number ${n}`);
  const last = next(bob, "message", ({ data }) => data.text === sent.at(-1));
  for (const text of sent) alice.emit("message", { text });
  await last;
  assert.deepEqual(received, sent);
  alice.disconnect();
  bob.disconnect();
});
