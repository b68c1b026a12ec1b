// The official client and a browser, through a proxy that terminates TLS. Run as
// `node proxied.mjs URL ALICE_TOKEN BOB_TOKEN CHROMIUM PASSWORD`; the user carol is registered with the password.
import assert from "node:assert/strict";
import { setDefaultResultOrder } from "node:dns";
import { Agent, request } from "node:https";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { io } from "socket.io-client";

const [url, alice, bob, executablePath, password] = process.argv.slice(2);
const bundle = fileURLToPath(new URL("./node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url));
// The proxies listen on 127.0.0.1 only.
setDefaultResultOrder("ipv4first");
// Their certificate is self-signed.
const trusting = { rejectUnauthorized: false };

const ways = [["polling"], ["websocket"], ["polling", "websocket"]];

/** A connected client with this session; its origin is the proxy's address, as in a browser. */
async function client(token, transports) {
  const headers = { Cookie: `auth_token=${token}`, Origin: new URL(url).origin };
  const socket = io(url, { ...trusting, transports, forceNew: true, reconnection: false, extraHeaders: headers });
  await new Promise((resolve, reject) => {
    socket.once("welcome", resolve);
    socket.once("connect_error", (error) => reject(new Error(`${transports}: ${error.message}`)));
  });
  return socket;
}

for (const transports of ways) {
  test(`the official client chats by ${transports.join(" then ")}`, async () => {
    const sender = await client(alice, transports);
    const receiver = await client(bob, transports);
    try {
      const text = `by ${transports}`;
      const received = new Promise((resolve) => receiver.once("message", resolve));
      const ack = await sender.timeout(10_000).emitWithAck("message", { text });
      assert.equal(ack.ok, true);
      assert.equal((await received).data.text, text);
    } finally {
      sender.disconnect();
      receiver.disconnect();
    }
  });
}

/** Runs in the page: logs in, connects, sends a message. */
async function visit({ password, transports }) {
  const attempt = () =>
    fetch("/user/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ username: "carol", password }),
    });
  let login = await attempt();
  // Earlier logins come from the same address and count towards its rate limit.
  while (login.status === 429) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * Number(login.headers.get("Retry-After") ?? 1)));
    login = await attempt();
  }
  if (login.status !== 200) return { login: login.status };
  const socket = io({ transports, reconnection: false });
  const welcome = await new Promise((resolve) => {
    socket.once("welcome", ({ username }) => resolve(username));
    socket.once("connect_error", ({ message }) => resolve(`refused: ${message}`));
  });
  const ack = await socket.timeout(10_000).emitWithAck("message", { text: "from a page" });
  socket.disconnect();
  return { login: login.status, welcome, ack: ack.ok, script: document.cookie };
}

test("a browser logs in and chats", async () => {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
  const browser = await chromium.launch({ executablePath, args });
  try {
    for (const transports of ways) {
      const context = await browser.newContext({ ignoreHTTPSErrors: true, bypassCSP: true });
      const tab = await context.newPage();
      await tab.goto(url);
      await tab.addScriptTag({ path: bundle });
      const seen = await tab.evaluate(visit, { password, transports });
      assert.deepEqual(seen, { login: 200, welcome: "carol", ack: true, script: "" }, transports.join());
      const [cookie] = await context.cookies();
      assert.equal(cookie.secure, true, "a session cookie set over TLS is not sent over plain text");
      await context.close();
    }
  } finally {
    await browser.close();
  }
});

/** The status of a login from this address of the loopback network, with a forged header. */
function login(localAddress, forged) {
  const headers = { "Content-Type": "application/json", "Content-Length": 2, ...forged };
  return new Promise((resolve, reject) => {
    const options = { method: "POST", localAddress, headers, agent: new Agent({ ...trusting, keepAlive: false }) };
    const sent = request(new URL("/user/login", url), options, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    });
    sent.on("error", reject);
    sent.end("{}");
  });
}

test("the rate limit applies to the client's real address", async () => {
  const statuses = async (address, forged) => {
    const burst = [];
    for (let attempt = 0; attempt < 3; attempt += 1) burst.push(await login(address, forged(attempt)));
    return burst;
  };
  // The burst is two, and the limit refills one per second.
  const none = () => ({});
  assert.deepEqual(await statuses("127.0.0.11", none), [400, 400, 429]);
  assert.deepEqual(await statuses("127.0.0.12", none), [400, 400, 429], "another client");
  const forged = (attempt) => ({ "X-Forwarded-For": `198.51.100.${attempt}` });
  assert.deepEqual(await statuses("127.0.0.13", forged), [400, 400, 429], "a forged address");
});
