// Clients that show nothing but a token in CONNECT, as native apps do and pages of the server's own origin may: no cookie, no
// Authorization, no Origin. The server runs with --allow-token-clients.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, next, server, tokens } from "./house.mjs";

const ways = [["polling"], ["websocket"], ["polling", "websocket"]];
const own = { Origin: server };

for (const transports of ways) {
  for (const [who, extraHeaders] of [["a program", {}], ["a page of the server", own]]) {
    const way = `${transports.join(" then ")}, ${who}`;
    const visitor = (auth) => client(undefined, { transports, auth, extraHeaders });

    test(`${way}: a token alone lets its user in, again after a lost connection`, async () => {
      const alice = visitor({ token: tokens.alice });
      assert.equal((await next(alice, "welcome")).username, "alice");
      assert.equal((await alice.timeout(10_000).emitWithAck("message", { text: "by token alone" })).ok, true);
      const again = next(alice, "connect");
      alice.io.engine.close();
      await again;
      assert.equal((await alice.timeout(10_000).emitWithAck("message", { text: "and again" })).ok, true);
      alice.disconnect();
    });

    for (const auth of [{ token: "A".repeat(43) }, {}]) {
      test(`${way}: ${JSON.stringify(auth)} is refused with a code, once`, async () => {
        const nobody = visitor(auth);
        const { data } = await next(nobody, "connect_error");
        assert.equal(data.code, "unauthorized");
        assert.equal(nobody.active, false, "the client does not try again by itself");
        nobody.disconnect();
      });
    }
  }
}
