// Clients without a session receive connect_error and no connection.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, next } from "./support.mjs";

for (const [what, token, options] of [
  ["no session", undefined, {}],
  ["an unknown session", "A".repeat(43), {}],
  ["a claimed name", undefined, { auth: { username: "alice" } }],
  ["a wrong token in auth", undefined, { auth: { token: "A".repeat(43) } }],
]) {
  test(`with ${what} there is a connect_error`, async () => {
    const anonymous = client(token, { reconnection: false, ...options });
    const refused = await next(anonymous, "connect_error");
    assert.ok(refused instanceof Error && refused.message.length > 0);
    assert.equal(anonymous.connected, false);
    anonymous.disconnect();
  });
}
