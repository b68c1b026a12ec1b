// Clients with a token in CONNECT as their only credential, as native apps and pages of the server's own origin: no cookie, no
// Authorization, no Origin. The server runs with --allow-token-clients.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, next, server, tokens } from "./support.mjs";

const ways = [["polling"], ["websocket"], ["polling", "websocket"]];
const own = { Origin: server };

for (const transports of ways) {
  for (const [who, extraHeaders] of [["a program", {}], ["a page of the server", own]]) {
    const way = `${transports.join(" then ")}, ${who}`;
    const tokenClient = (auth) => client(undefined, { transports, auth, extraHeaders });

    test(`${way}: a token alone authenticates its user, also after a lost connection`, async () => {
      const alice = tokenClient({ token: tokens.alice });
      assert.equal((await next(alice, "welcome")).username, "alice");
      assert.equal((await alice.timeout(10_000).emitWithAck("message", { text: "by token" })).ok, true);
      const again = next(alice, "connect");
      alice.io.engine.close();
      await again;
      assert.equal((await alice.timeout(10_000).emitWithAck("message", { text: "reconnected" })).ok, true);
      alice.disconnect();
    });

    for (const auth of [{ token: "A".repeat(43) }, {}]) {
      test(`${way}: ${JSON.stringify(auth)} is refused with a code, once`, async () => {
        const anonymous = tokenClient(auth);
        const { data } = await next(anonymous, "connect_error");
        assert.equal(data.code, "unauthorized");
        assert.equal(anonymous.active, false, "the client does not reconnect by itself");
        anonymous.disconnect();
      });
    }
  }
}
