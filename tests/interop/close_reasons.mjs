// Prints what the official client observes when the server ends its connection, for each reason and transport. Run by close_reasons.rs
// as `node SCRIPT URL REASON_OF_CLIENTS REASON...`: for the first reason the client disconnects, for the others the server does.
import { io } from "socket.io-client";

const [url, ownReason, ...reasons] = process.argv.slice(2);

function observe(reason, transport) {
  const options = { transports: [transport], forceNew: true, reconnectionDelay: 1, reconnectionDelayMax: 10 };
  const socket = io(url, options);
  return new Promise((resolve, reject) => {
    socket.on("connect_error", reject);
    socket.once("connect", () => {
      if (reason === ownReason) socket.disconnect();
      else socket.emit("end", reason);
    });
    socket.once("disconnect", (seen, details) => {
      const code = details?.context?.code ?? null;
      if (!socket.active) resolve({ seen, code, reconnects: false });
      else socket.once("connect", () => resolve({ seen, code, reconnects: true }));
    });
  }).finally(() => socket.disconnect());
}

const observed = reasons.map(async (reason) => {
  const websocket = await observe(reason, "websocket");
  const polling = await observe(reason, "polling");
  const reconnects = [websocket.reconnects, polling.reconnects];
  return { reason, websocket: websocket.seen, code: websocket.code, polling: polling.seen, reconnects };
});
console.log(JSON.stringify(await Promise.all(observed)));
