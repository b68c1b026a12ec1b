// A real browser on pages of an allowed origin, with and without cookies, and of another origin.
import assert from "node:assert/strict";
import { test } from "node:test";
import { allowed, browser, on, password, server, foreign, ways } from "./pages.mjs";

/** Runs in the page: logs in, connects, sends a message, and returns what happened. */
async function visit({ server, password, options, cookie, token }) {
  const happened = { cookie: document.cookie };
  if (cookie || token) {
    try {
      const login = await fetch(`${server}/user/login`, {
        method: "POST",
        credentials: cookie ? "include" : "omit",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ username: "alice", password }),
      });
      happened.login = login.status;
    } catch (error) {
      happened.login = error.message;
    }
  }
  const socket = io(server, { reconnection: false, ...options });
  const outcome = new Promise((resolve) => {
    socket.once("welcome", ({ username }) => resolve({ welcome: username }));
    socket.once("connect_error", ({ message, data }) => resolve({ refused: message, data }));
    setTimeout(() => resolve({ refused: "timeout" }), 15_000);
  });
  Object.assign(happened, await outcome);
  if (happened.welcome) {
    if (options.transports.length > 1 && socket.io.engine.transport.name !== "websocket") {
      await new Promise((resolve) => socket.io.engine.once("upgrade", resolve));
    }
    happened.ack = await socket.timeout(10_000).emitWithAck("message", { text: "from a page" });
    happened.transport = socket.io.engine.transport.name;
  }
  socket.disconnect();
  return happened;
}

for (const transports of ways) {
  const way = transports.join(" then ");
  const options = { transports, withCredentials: true };

  test(`${way}: a page of an allowed origin logs in and chats with the cookie`, async () => {
    const seen = await on(allowed, visit, { server, password, options, cookie: true });
    assert.equal(seen.login, 200);
    assert.equal(seen.cookie, "", "the session is not readable by scripts");
    assert.equal(seen.welcome, "alice", JSON.stringify(seen));
    assert.equal(seen.ack.ok, true);
    assert.equal(seen.transport, transports.at(-1));
  });

  test(`${way}: a page of an allowed origin that sends no cookie is refused`, async () => {
    const options = { transports, withCredentials: false };
    const seen = await on(allowed, visit, { server, password, options });
    assert.equal(seen.data?.code, "unauthorized", JSON.stringify(seen));
  });

  test(`${way}: a page of any other origin can neither log in nor connect, with a cookie or without`, async () => {
    const seen = await on(foreign, visit, { server, password, options, cookie: true });
    assert.notEqual(seen.login, 200);
    assert.equal(seen.welcome, undefined, JSON.stringify(seen));
    assert.ok(seen.refused);
  });
}

test("a page of any other origin cannot use the cookie that an allowed page received", async () => {
  const context = await browser.newContext();
  const tab = await context.newPage();
  await tab.goto(`http://127.0.0.1:${allowed.address().port}/`);
  const options = { transports: ["websocket"], withCredentials: true };
  const first = await tab.evaluate(visit, { server, password, options, cookie: true });
  assert.equal(first.welcome, "alice", JSON.stringify(first));
  await tab.goto(`http://127.0.0.1:${foreign.address().port}/`);
  for (const transports of ways) {
    const seen = await tab.evaluate(visit, { server, password, options: { ...options, transports } });
    assert.equal(seen.welcome, undefined, JSON.stringify(seen));
    assert.ok(seen.refused);
  }
  const read = await tab.evaluate(
    (url) => fetch(url, { credentials: "include" }).then((response) => response.status, (error) => error.message),
    `${server}/user/me`,
  );
  assert.equal(typeof read, "string", "the page read the user name");
  await context.close();
});
