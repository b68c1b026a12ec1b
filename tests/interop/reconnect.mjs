// The official client reconnects after a drop of the transport, and does not reconnect after a logout.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, connect, next, server, tokens } from "./support.mjs";

const quick = { reconnectionDelay: 50, reconnectionDelayMax: 100 };

test("after a drop the client reconnects and receives messages", async () => {
  const alice = await connect("alice", quick);
  const bob = await connect("bob");
  const before = alice.id;
  const dropped = next(alice, "disconnect");
  const again = next(alice, "welcome");
  alice.io.engine.close();
  assert.match(await dropped, /forced close|transport close/);
  await again;
  assert.ok(alice.connected && before !== undefined);

  const received = next(alice, "message", ({ data }) => data.text === "after the drop");
  bob.emit("message", { text: "after the drop" });
  await received;
  alice.disconnect();
  bob.disconnect();
});

test("the namespace can be left and joined again in one burst on the same connection", async () => {
  const alice = await connect("alice");
  const again = next(alice, "welcome");
  alice.disconnect().connect();
  await again;
  assert.equal((await alice.emitWithAck("message", { text: "joined again" })).ok, true);
  alice.disconnect();
});

test("a logout disconnects the client, and its next connection is refused", async () => {
  const bob = client(tokens.bob, quick);
  await next(bob, "welcome");
  const out = next(bob, "disconnect");
  const response = await fetch(`${server}/user/logout`, {
    method: "POST",
    headers: { Cookie: `auth_token=${tokens.bob}`, "Content-Type": "application/json" },
    body: "{}",
  });
  assert.equal(response.status, 200);
  assert.equal(await out, "io server disconnect");
  const refused = next(bob, "connect_error");
  bob.connect();
  assert.ok((await refused) instanceof Error);
  bob.disconnect();
});
