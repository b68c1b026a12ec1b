// Shared by the interop scripts: arguments, clients, waiting for events. Every script is run by interop.rs as
// `node SCRIPT URL ALICE_TOKEN BOB_TOKEN SERVER_PID ALLOWED_ORIGIN ALICE_PASSWORD BOB_PASSWORD`.
import { after } from "node:test";
import { io } from "socket.io-client";

const [url, alice, bob, pid, origin, ...secrets] = process.argv.slice(2);
const sockets = [];

// A socket that a failed test left open would prevent the exit of the process.
after(() => sockets.forEach((socket) => socket.disconnect()));

export const server = url;
export const serverPid = Number(pid);
/** The allowed origin besides the server's own. */
export const page = origin;
export const tokens = { alice, bob };
export const passwords = { alice: secrets[0], bob: secrets[1] };

/** A client over WebSocket with the session cookie `token`; it connects at once unless the options prevent it. */
export function client(token, options = {}) {
  const extraHeaders = token ? { Cookie: `auth_token=${token}` } : {};
  const socket = io(url, { transports: ["websocket"], forceNew: true, extraHeaders, ...options });
  sockets.push(socket);
  return socket;
}

/** Waits for the next event of this name that fits; resolves to its first argument. */
export function next(emitter, event, fits = () => true) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      emitter.off(event, look);
      reject(new Error(`timed out: ${event}`));
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

/** A connected client that has received `welcome`. */
export async function connect(name, options) {
  const socket = client(tokens[name], options);
  await next(socket, "welcome");
  return socket;
}
