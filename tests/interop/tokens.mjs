// Clients that can send no cookie, on a page of another origin that is allowed: the token is in CONNECT. The page's origin is
// the sixth argument.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, next, page, server, tokens } from "./house.mjs";

const ways = [["polling"], ["websocket"], ["polling", "websocket"]];

for (const transports of ways) {
  const way = transports.join(" then ");
  const visitor = (auth, options) => client(undefined, { transports, auth, extraHeaders: { Origin: page }, ...options });

  test(`${way}: the right token is welcomed as its user, and chats`, async () => {
    let asked = 0;
    const alice = visitor((answer) => {
      asked += 1;
      answer({ token: tokens.alice });
    });
    assert.equal((await next(alice, "welcome")).username, "alice");
    assert.equal(asked, 1);
    assert.equal((await alice.emitWithAck("message", { text: "with a token" })).ok, true);
    alice.disconnect();
  });

  for (const [what, auth] of [
    ["a wrong token", { token: "A".repeat(43) }],
    ["no token", {}],
    ["a token that is no text", { token: { $ne: null } }],
    ["a claimed name", { username: "alice" }],
  ]) {
    test(`${way}: ${what} is refused with a code`, async () => {
      const nobody = visitor((answer) => answer(auth));
      const { message, data } = await next(nobody, "connect_error");
      assert.equal(data.code, "unauthorized");
      assert.ok(message.length > 0);
      assert.equal(nobody.connected, false);
      nobody.disconnect();
    });
  }

  test(`${way}: a token that is right the second time gets in, on a client that asks its function again`, async () => {
    const answers = [{ token: "A".repeat(43) }, { token: tokens.bob }];
    const bob = visitor((answer) => answer(answers.shift()));
    await next(bob, "connect_error");
    const welcome = next(bob, "welcome");
    bob.connect();
    assert.equal((await welcome).username, "bob");
    bob.disconnect();
  });

  test(`${way}: a page that is not allowed is refused, right token or not`, async () => {
    const extraHeaders = { Origin: "http://elsewhere.example" };
    const nobody = visitor({ token: tokens.alice }, { extraHeaders, reconnection: false });
    assert.ok((await next(nobody, "connect_error")) instanceof Error);
    assert.equal(nobody.connected, false);
    nobody.disconnect();
  });
}

test("until it has said who it is, a client hears and does nothing", async () => {
  const open = await fetch(`${server}/socket.io/?EIO=4&transport=polling`, { headers: { Origin: page } });
  assert.equal(open.status, 200);
  const { sid } = JSON.parse((await open.text()).slice(1));
  const post = (body) =>
    fetch(`${server}/socket.io/?EIO=4&transport=polling&sid=${sid}`, {
      method: "POST",
      headers: { Origin: page, "Content-Type": "text/plain;charset=UTF-8" },
      body,
    });
  await post('420["message",{"text":"from nobody"}]');
  const answer = await fetch(`${server}/socket.io/?EIO=4&transport=polling&sid=${sid}`, { headers: { Origin: page } });
  assert.ok(!(await answer.text()).includes('"ok":true'));
  const history = await fetch(`${server}/rooms/lobby/messages`, { headers: { Cookie: `auth_token=${tokens.alice}` } });
  assert.ok(!(await history.text()).includes("from nobody"));
});
