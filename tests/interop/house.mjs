// What the interop scripts share: who is who, how a client connects, how a script waits. Every script is run as
// `node SCRIPT URL ALICE_TOKEN BOB_TOKEN SERVER_PID ALLOWED_ORIGIN ALICE_PASSWORD BOB_PASSWORD` by interop.rs.
import { after } from "node:test";
import { io } from "socket.io-client";

const [url, alice, bob, pid, origin, ...words] = process.argv.slice(2);
const sockets = [];

// A socket that a failed test left open would keep the process from ending.
after(() => sockets.forEach((socket) => socket.disconnect()));

export const server = url;
export const serverPid = Number(pid);
/** The origin whose pages may connect besides the server's own. */
export const page = origin;
export const tokens = { alice, bob };
export const passwords = { alice: words[0], bob: words[1] };

/** A client over WebSocket with somebody's cookie, not connected yet unless the options say so. */
export function client(token, options = {}) {
  const extraHeaders = token ? { Cookie: `auth_token=${token}` } : {};
  const socket = io(url, { transports: ["websocket"], forceNew: true, extraHeaders, ...options });
  sockets.push(socket);
  return socket;
}

/** The first argument of the next event of this name, or of the next one that fits. */
export function next(emitter, event, fits = () => true) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      emitter.off(event, look);
      reject(new Error(`waited in vain for ${event}`));
    }, 20_000);
    function look(...args) {
      if (!fits(...args)) return;
      clearTimeout(late);
      emitter.off(event, look);
      resolve(args[0]);
    }
    emitter.on(event, look);
  });
}

/** A connected client, welcomed. */
export async function enters(name, options) {
  const socket = client(tokens[name], options);
  await next(socket, "welcome");
  return socket;
}
