// Sessions in a real browser: a page of another site logs in for a token, a login replaces the session of other tabs, a logout revokes it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { allowed, browser, onHost, password, server, ways } from "./pages.mjs";

/** Runs in a page of another site: registers, logs in by token, uses it over HTTP and in CONNECT, and logs out with it. */
async function visitWithToken({ server, username, transports }) {
  const password = `${username} has a long password`;
  const ask = async (method, path, { token, body, ...more } = {}) => {
    try {
      const response = await fetch(`${server}${path}`, {
        method,
        headers: {
          ...(body && { "Content-Type": "application/json" }),
          ...(token && { Authorization: `Bearer ${token}` }),
        },
        ...(body && { body: JSON.stringify(body) }),
        ...more,
      });
      return { status: response.status, body: await response.json().catch(() => null) };
    } catch (error) {
      return { status: error.message };
    }
  };
  const seen = {};
  seen.registered = (await ask("POST", "/user/register", { body: { username, password } })).status;
  const include = { credentials: "include" };
  seen.cookieLogin = (await ask("POST", "/user/login", { body: { username, password }, ...include })).status;
  seen.meByCookie = (await ask("GET", "/user/me", include)).status;
  const login = await ask("POST", "/user/login", { body: { username, password, session: "token" }, ...include });
  const { token } = login.body;
  seen.login = login.status;
  seen.me = (await ask("GET", "/user/me", { token })).body;
  const room = `den-of-${username}`;
  seen.created = (await ask("POST", "/rooms", { token, body: { name: room } })).status;
  seen.posted = (await ask("POST", `/rooms/${room}/messages`, { token, body: { text: "by token" } })).status;
  seen.removed = (await ask("DELETE", `/rooms/${room}`, { token, body: {} })).status;

  const socket = io(server, { transports, auth: { token }, reconnection: false });
  const welcome = await new Promise((resolve) => {
    socket.once("welcome", resolve);
    socket.once("connect_error", ({ message }) => resolve({ username: message }));
    setTimeout(() => resolve({ username: "timeout" }), 15_000);
  });
  seen.welcome = welcome.username;
  seen.ack = await socket.timeout(10_000).emitWithAck("message", { text: "from another site" });
  const out = new Promise((resolve) => socket.once("disconnect", resolve));
  seen.logout = (await ask("POST", "/user/logout", { token })).status;
  seen.out = await out;
  seen.meAfterwards = (await ask("GET", "/user/me", { token })).status;
  return seen;
}

for (const [n, transports] of ways.entries()) {
  test(`${transports.join(" then ")}: a page of an allowed other site chats with a token`, async () => {
    const username = `visitor${n}`;
    const { ack, ...seen } = await onHost("localhost", allowed, visitWithToken, { server, username, transports });
    assert.equal(ack.ok, true);
    assert.deepEqual(seen, {
      registered: 201,
      cookieLogin: 200,
      meByCookie: 401,
      login: 200,
      me: { username },
      created: 201,
      posted: 201,
      removed: seen.removed,
      welcome: username,
      logout: 200,
      out: "io server disconnect",
      meAfterwards: 401,
    });
    assert.ok([200, 204].includes(seen.removed), seen.removed);
  });
}

/** Runs in a page: logs in with the cookie, and uses it. */
async function logIn({ server, password }) {
  const response = await fetch(`${server}/user/login`, {
    method: "POST",
    credentials: "include",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username: "alice", password }),
  });
  await fetch(`${server}/user/me`, { credentials: "include" });
  return response.status;
}

/** Runs in a page: opens a socket and keeps it. */
async function openSocket({ server, options }) {
  window.ends = [];
  window.socket = io(server, options);
  window.socket.on("disconnect", (reason) => window.ends.push(reason));
  await new Promise((resolve) => window.socket.once("welcome", resolve));
}

for (const transports of ways) {
  test(`${transports.join(" then ")}: after a login in a second tab the first tab reconnects`, async () => {
    const context = await browser.newContext();
    const [first, second] = [await context.newPage(), await context.newPage()];
    for (const tab of [first, second]) await tab.goto(`http://127.0.0.1:${allowed.address().port}/`);
    // Cookies are shared between ports: the server also receives those of other applications on this host.
    await first.evaluate(() => {
      document.cookie = "nick=Jos\u00e9 \u{1f98e}; path=/";
      document.cookie = 'odd="a, b';
      document.cookie = "AUTH_TOKEN=of another application";
    });
    assert.equal(await first.evaluate(logIn, { server, password }), 200);
    await first.evaluate(openSocket, { server, options: { transports, withCredentials: true } });
    assert.equal(await second.evaluate(logIn, { server, password }), 200);
    await first.waitForFunction(() => window.ends.length > 0 && window.socket.connected, undefined, { timeout: 20_000 });
    const [why] = await first.evaluate(() => window.ends);
    assert.match(why, /^transport (close|error)$/);
    const ack = await first.evaluate(() => window.socket.timeout(10_000).emitWithAck("message", { text: "still here" }));
    assert.equal(ack.ok, true);
    await context.close();
  });
}

for (const transports of ways) {
  test(`${transports.join(" then ")}: a page whose session was revoked elsewhere is disconnected and refused once`, async () => {
    const context = await browser.newContext();
    const tab = await context.newPage();
    await tab.goto(`http://127.0.0.1:${allowed.address().port}/`);
    assert.equal(await tab.evaluate(logIn, { server, password }), 200);
    await tab.evaluate(openSocket, { server, options: { transports, withCredentials: true } });
    const { value } = (await context.cookies(server)).find(({ name }) => name === "auth_token");
    const logout = { method: "POST", headers: { Authorization: `Bearer ${value}` } };
    assert.equal((await fetch(`${server}/user/logout`, logout)).status, 200);
    await tab.waitForFunction(() => window.ends.length > 0, undefined, { timeout: 20_000 });
    // A page that polls, without a pending request at that moment, fails with its next request.
    const [why] = await tab.evaluate(() => window.ends);
    assert.match(why, transports.includes("polling") ? /^(io server disconnect|transport close|transport error)$/ : /^io server/);
    const refused = await tab.evaluate(
      () =>
        new Promise((resolve) => {
          window.socket.once("connect_error", ({ data }) => resolve({ data, active: window.socket.active }));
          window.socket.connect();
        }),
    );
    assert.equal(refused.data.code, "unauthorized");
    assert.equal(refused.active, false, "the client does not reconnect by itself");
    await context.close();
  });
}
