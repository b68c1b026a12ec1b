// A drop of the transport is repaired by the official client itself; being put out (logout) is not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, enters, next, server, tokens } from "./house.mjs";

const quick = { reconnectionDelay: 50, reconnectionDelayMax: 100 };

test("after a drop the client comes back and hears again", async () => {
  const alice = await enters("alice", quick);
  const bob = await enters("bob");
  const before = alice.id;
  const dropped = next(alice, "disconnect");
  const back = next(alice, "welcome");
  alice.io.engine.close();
  assert.match(await dropped, /forced close|transport close/);
  await back;
  assert.ok(alice.connected && before !== undefined);

  const heard = next(alice, "message", ({ data }) => data.text === "welcome back");
  bob.emit("message", { text: "welcome back" });
  await heard;
  alice.disconnect();
  bob.disconnect();
});

test("leaving and coming back on the same connection works in one burst", async () => {
  const alice = await enters("alice");
  const again = next(alice, "welcome");
  alice.disconnect().connect();
  await again;
  assert.equal((await alice.emitWithAck("message", { text: "back" })).ok, true);
  alice.disconnect();
});

test("a logout puts the client out, and it does not get in again", async () => {
  const bob = client(tokens.bob, quick);
  await next(bob, "welcome");
  const out = next(bob, "disconnect");
  const answer = await fetch(`${server}/user/logout`, {
    method: "POST",
    headers: { Cookie: `auth_token=${tokens.bob}`, "Content-Type": "application/json" },
    body: "{}",
  });
  assert.equal(answer.status, 200);
  assert.equal(await out, "io server disconnect");
  const refused = next(bob, "connect_error");
  bob.connect();
  assert.ok((await refused) instanceof Error);
  bob.disconnect();
});
