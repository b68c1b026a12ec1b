// A real browser and two sites with an empty page each: one that the server allows, under two host names, and one that it does not
// allow. Every script with a browser is run as `node SCRIPT URL ALLOWED_PORT CHROMIUM PASSWORD`; the user alice is registered with
// that password.
import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [url, allowedPort, executablePath, secret] = process.argv.slice(2);
const bundle = fileURLToPath(new URL("./node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url));
const quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
const still = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];

export const server = url;
export const password = secret;
export const ways = [["polling"], ["websocket"], ["polling", "websocket"]];
export let browser, allowed, foreign;

before(async () => {
  allowed = await page(Number(allowedPort));
  foreign = await page(0);
  browser = await chromium.launch({ executablePath, args: [...quiet, ...still] });
});

after(async () => {
  await browser?.close();
  for (const site of [allowed, foreign]) {
    site?.closeAllConnections();
    site?.close();
  }
});

/** A site with an empty page and the official client, on its own port and therefore with its own origin. */
function page(port) {
  const site = createServer((request, response) => {
    if (request.url === "/socket.io.js") {
      response.setHeader("Content-Type", "text/javascript");
      createReadStream(bundle).pipe(response);
    } else {
      response.setHeader("Content-Type", "text/html; charset=utf-8");
      response.end('<!doctype html><title>a page</title><script src="/socket.io.js"></script>');
    }
  });
  return new Promise((resolve) => site.listen(port, "127.0.0.1", () => resolve(site)));
}

/** Runs a function on a page of this site, in its own browser profile. */
export async function on(site, what, ...args) {
  return onHost("127.0.0.1", site, what, ...args);
}

/** As `on`, under another host name. `localhost` is another site than `127.0.0.1`. */
export async function onHost(host, site, what, ...args) {
  const context = await browser.newContext();
  try {
    const tab = await context.newPage();
    await tab.goto(`http://${host}:${site.address().port}/`);
    return await tab.evaluate(what, ...args);
  } finally {
    await context.close();
  }
}
