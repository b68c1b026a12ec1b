// Two official clients chat: each hears the other and not itself, sees who is here and who types.
import assert from "node:assert/strict";
import { test } from "node:test";
import { enters, next } from "./house.mjs";

test("alice and bob chat", async () => {
  const alice = await enters("alice");
  const seen = next(alice, "presence", ({ online }) => online.includes("bob"));
  const bob = await enters("bob");
  assert.deepEqual((await seen).online, ["alice", "bob"]);

  const own = [];
  alice.on("message", ({ from }) => own.push(from));
  const heard = next(bob, "message");
  alice.emit("message", { text: "hello, bob" });
  const { id, seq, room, from, data, timestamp } = await heard;
  assert.deepEqual({ seq, room, from, data }, { seq: 1, room: "lobby", from: "alice", data: { text: "hello, bob" } });
  assert.ok(typeof id === "string" && !Number.isNaN(Date.parse(timestamp)));

  const answered = next(alice, "message");
  bob.emit("message", { text: "hello, alice" });
  assert.equal((await answered).data.text, "hello, alice");
  assert.deepEqual(own, ["bob"]);

  const typing = next(bob, "typing", ({ users }) => users.length > 0);
  alice.emit("typing", { isTyping: true });
  assert.deepEqual(await typing, { users: ["alice"], room: "lobby" });

  const gone = next(alice, "presence", ({ online }) => !online.includes("bob"));
  bob.disconnect();
  await gone;
  alice.disconnect();
});

test("a burst of messages arrive in order, each once", async () => {
  const alice = await enters("alice");
  const bob = await enters("bob");
  const heard = [];
  bob.on("message", ({ data }) => heard.push(data.text));
  const sent = Array.from({ length: 15 }, (_, n) => `number ${n}`);
  const last = next(bob, "message", ({ data }) => data.text === sent.at(-1));
  for (const text of sent) alice.emit("message", { text });
  await last;
  assert.deepEqual(heard, sent);
  alice.disconnect();
  bob.disconnect();
});
