// Clients that send no cookie, on a page of another allowed origin: the token is in CONNECT. The page's origin is the fifth
// argument.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, next, page, server, tokens } from "./support.mjs";

const ways = [["polling"], ["websocket"], ["polling", "websocket"]];

for (const transports of ways) {
  const way = transports.join(" then ");
  const tokenClient = (auth, options) => client(undefined, { transports, auth, extraHeaders: { Origin: page }, ...options });

  test(`${way}: a valid token connects as its user`, async () => {
    let calls = 0;
    const alice = tokenClient((answer) => {
      calls += 1;
      answer({ token: tokens.alice });
    });
    assert.equal((await next(alice, "welcome")).username, "alice");
    assert.equal(calls, 1);
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
      const anonymous = tokenClient((answer) => answer(auth));
      const { message, data } = await next(anonymous, "connect_error");
      assert.equal(data.code, "unauthorized");
      assert.ok(message.length > 0);
      assert.equal(anonymous.connected, false);
      anonymous.disconnect();
    });
  }

  test(`${way}: a client whose auth function returns a valid token at the second attempt connects`, async () => {
    const answers = [{ token: "A".repeat(43) }, { token: tokens.bob }];
    const bob = tokenClient((answer) => answer(answers.shift()));
    await next(bob, "connect_error");
    const welcome = next(bob, "welcome");
    bob.connect();
    assert.equal((await welcome).username, "bob");
    bob.disconnect();
  });

  test(`${way}: a page of another origin is refused, also with a valid token`, async () => {
    const extraHeaders = { Origin: "http://elsewhere.example" };
    const anonymous = tokenClient({ token: tokens.alice }, { extraHeaders, reconnection: false });
    assert.ok((await next(anonymous, "connect_error")) instanceof Error);
    assert.equal(anonymous.connected, false);
    anonymous.disconnect();
  });
}

test("an unauthenticated client receives nothing and its events are ignored", async () => {
  const open = await fetch(`${server}/socket.io/?EIO=4&transport=polling`, { headers: { Origin: page } });
  assert.equal(open.status, 200);
  const { sid } = JSON.parse((await open.text()).slice(1));
  const post = (body) =>
    fetch(`${server}/socket.io/?EIO=4&transport=polling&sid=${sid}`, {
      method: "POST",
      headers: { Origin: page, "Content-Type": "text/plain;charset=UTF-8" },
      body,
    });
  await post('420["message",{"text":"from an unauthenticated client"}]');
  const answer = await fetch(`${server}/socket.io/?EIO=4&transport=polling&sid=${sid}`, { headers: { Origin: page } });
  assert.ok(!(await answer.text()).includes('"ok":true'));
  const history = await fetch(`${server}/rooms/lobby/messages`, { headers: { Cookie: `auth_token=${tokens.alice}` } });
  assert.ok(!(await history.text()).includes("from an unauthenticated client"));
});
