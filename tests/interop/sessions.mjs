// Sessions that are revoked or replaced, as the official client observes them on every transport, with the cookies of a browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, next, passwords, server } from "./support.mjs";

const ways = [["polling"], ["websocket"], ["polling", "websocket"]];
const quick = { reconnectionDelay: 200, reconnectionDelayMax: 400 };
// Another application's cookie, as UTF-8 bytes: Node writes header values as Latin-1.
const foreign = Buffer.from("nick=José; broken=\u{1f98e}").toString("latin1");

/** Posts as a browser does: sends its cookies and stores the cookie of the response. */
async function post(path, body, jar) {
  const response = await fetch(`${server}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(jar.cookie && { Cookie: jar.cookie }) },
    body: JSON.stringify(body),
  });
  const [set] = response.headers.getSetCookie();
  if (set) jar.cookie = `${set.split(";")[0]}; ${foreign}`;
  return response;
}

async function login(name, jar) {
  const response = await post("/user/login", { username: name, password: passwords[name] }, jar);
  assert.equal(response.status, 200, await response.text());
}

/** A tab, which always sends the current cookie of the jar. */
function tab(jar, transports) {
  const socket = client(undefined, { transports, ...quick, extraHeaders: undefined, autoConnect: false });
  socket.io.opts.extraHeaders = {
    get cookie() {
      return jar.cookie;
    },
  };
  return socket.connect();
}

/** The disconnect reasons after a logout. A client that polls, without a pending request at that moment, fails with its next request. */
function ended(transports) {
  return transports.includes("polling") ? /^(io server disconnect|transport close|transport error)$/ : /^io server disconnect$/;
}

/** Waits until the client is disconnected and does not reconnect by itself. */
async function staysDisconnected(socket) {
  const until = Date.now() + 20_000;
  while (socket.active) {
    assert.ok(Date.now() < until, "the client still tries to connect");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.equal(socket.connected, false);
}

for (const transports of ways) {
  const way = transports.join(" then ");

  test(`${way}: after a second login in the same browser the first tab reconnects by itself`, async () => {
    const jar = {};
    await login("alice", jar);
    const first = tab(jar, transports);
    await next(first, "welcome");
    const dropped = next(first, "disconnect");
    const again = next(first, "welcome");
    await login("alice", jar);
    // The first use of the new cookie ends the old session.
    assert.equal((await fetch(`${server}/user/me`, { headers: { Cookie: jar.cookie } })).status, 200);
    assert.match(await dropped, /^transport (close|error)$/);
    await again;
    assert.equal((await first.timeout(10_000).emitWithAck("message", { text: "still here" })).ok, true);
    const second = tab(jar, transports);
    await next(second, "welcome");

    const out = [next(first, "disconnect"), next(second, "disconnect")];
    assert.equal((await post("/user/logout", {}, { cookie: jar.cookie })).status, 200);
    for (const why of await Promise.all(out)) assert.match(why, ended(transports));
    await Promise.all([first, second].map(staysDisconnected));
  });

  test(`${way}: a cookie of a revoked session gets one connect_error with a code`, async () => {
    const jar = {};
    await login("bob", jar);
    const { cookie } = jar;
    assert.equal((await post("/user/logout", {}, jar)).status, 200);
    for (const revoked of [cookie, cookie.replace(/auth_token=\w+/, "auth_token=never-issued")]) {
      const refused = tab({ cookie: revoked }, transports);
      const { message, data } = await next(refused, "connect_error");
      assert.deepEqual(data, { code: "unauthorized", message });
      assert.equal(refused.active, false, "the client does not reconnect by itself");
      refused.disconnect();
    }
  });
}

test("a client whose session was revoked connects with a new cookie or a token", async () => {
  const jar = {};
  await login("bob", jar);
  const old = { cookie: jar.cookie };
  await post("/user/logout", {}, { ...old });
  const bob = tab(old, ["polling", "websocket"]);
  await next(bob, "connect_error");
  await login("bob", old);
  const welcome = next(bob, "welcome");
  bob.connect();
  assert.equal((await welcome).username, "bob");
  bob.disconnect();

  const response = await post("/user/login", { username: "bob", password: passwords.bob, session: "token" }, {});
  const { token } = await response.json();
  assert.deepEqual(response.headers.getSetCookie(), []);
  const revoked = { cookie: jar.cookie };
  const withToken = tab(revoked, ["websocket"]);
  withToken.auth = { token };
  assert.equal((await next(withToken, "welcome")).username, "bob");
  withToken.disconnect();
});
