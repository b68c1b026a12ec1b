// A client of a user who has too many sockets gets no connect_error, after which it would stop. It reconnects until a socket has ended.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, connect, next, tokens } from "./support.mjs";

for (const transports of [["websocket"], ["polling"]]) {
  test(`over ${transports} the client connects when another socket has ended`, async () => {
    const first = await connect("alice");
    const second = await connect("alice");
    const third = client(tokens.alice, { transports, reconnectionDelay: 50, reconnectionDelayMax: 100 });
    const errors = [];
    let opened = 0;
    third.on("connect_error", ({ message }) => errors.push(message));
    third.io.on("open", () => opened++);
    const connected = next(third, "welcome");
    const details = await new Promise((resolve) => third.once("disconnect", (_, details) => resolve(details)));
    // Over long-polling the close packet has no reason.
    if (transports[0] === "websocket") {
      assert.deepEqual([details.context.code, details.context.reason], [1008, "too many connections"]);
    }
    assert.equal(third.active, true, "the client reconnects by itself");
    assert.equal(opened, 1, "the server waits before it closes the connection");
    first.disconnect();
    await connected;
    assert.deepEqual(errors, []);
    second.disconnect();
    third.disconnect();
  });
}
