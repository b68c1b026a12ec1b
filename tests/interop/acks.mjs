// Acks of the official client: callback, emitWithAck, timeout, and retries, which repeat an event under a new ack id.
import { readFileSync, readdirSync } from "node:fs";
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, next, serverPid } from "./support.mjs";

test("a message is acked with its seq, by callback and by promise", async () => {
  const alice = await connect("alice");
  const byCallback = await new Promise((resolve) => alice.emit("message", { text: "one" }, resolve));
  const byPromise = await alice.emitWithAck("message", { text: "two" });
  assert.equal(byCallback.ok, true);
  assert.equal(byPromise.seq, byCallback.seq + 1);
  alice.disconnect();
});

test("a refused event is acked with a code", async () => {
  const alice = await connect("alice");
  const refused = await alice.emitWithAck("message", { text: "x".repeat(8193) });
  assert.deepEqual([refused.ok, refused.code], [false, "too_large"]);
  assert.equal(typeof refused.message, "string");
  alice.disconnect();
});

test("a missing ack times out at the client and the connection stays open", async () => {
  const alice = await connect("alice");
  process.kill(serverPid, "SIGSTOP");
  // SIGSTOP stops one thread after the other.
  const threads = () => readdirSync(`/proc/${serverPid}/task`);
  const isStopped = (thread) => / T /.test(readFileSync(`/proc/${serverPid}/task/${thread}/stat`, "utf8"));
  while (!threads().every(isStopped)) await new Promise((resolve) => setImmediate(resolve));
  try {
    await assert.rejects(alice.timeout(300).emitWithAck("message", { text: "no ack" }), /timed out/);
  } finally {
    process.kill(serverPid, "SIGCONT");
  }
  const ack = await alice.timeout(20_000).emitWithAck("message", { text: "still here" });
  assert.equal(ack.ok, true);
  alice.disconnect();
});

test("a message that a client retries until it is acked is delivered once", async () => {
  const alice = await connect("alice", { retries: 3, ackTimeout: 5_000 });
  const bob = await connect("bob");
  const received = next(bob, "message");
  const ack = await alice.emitWithAck("message", { text: "retried", clientId: "c1" });
  assert.equal(ack.ok, true);
  assert.equal((await received).id, ack.id);
  alice.disconnect();
  bob.disconnect();
});
