// Verifies requests, in JSON on its standard input, with the libraries of the vendors
// whose signatures they have, and prints what each says of each: true or false.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.NODE_MODULES + "/");
const load = async (name) => import(require.resolve(name));

const { Webhooks } = await import(process.env.NODE_MODULES + "/@octokit/webhooks/dist-bundle/index.js");
const Stripe = require("stripe");
const svix = require("svix");
require("@shopify/shopify-api/adapters/node");
const { shopifyApi } = require("@shopify/shopify-api");

const verifiers = {
  github: async (r) => new Webhooks({ secret: r.secret }).verify(r.body, r.headers["x-hub-signature-256"]),
  shopify: async (r) => {
    const api = shopifyApi({
      apiKey: "k", apiSecretKey: r.secret, scopes: [], hostName: "app.example.com", apiVersion: "2025-07",
      isEmbeddedApp: true, logger: { level: -1, log: () => {} },
    });
    const found = await api.webhooks.validate({ rawBody: r.body, rawRequest: { method: "POST", url: "/", headers: r.headers }, rawResponse: {} });
    if (r.good && !found.valid) console.error(found);
    return found.valid;
  },
  stripe: async (r) => {
    try {
      return new Stripe("sk_test_x").webhooks.constructEvent(r.body, r.headers["stripe-signature"], r.secret) !== null;
    } catch (e) {
      if (e.type !== "StripeSignatureVerificationError") throw e;
      return false;
    }
  },
  svix: async (r) => {
    try {
      const { "svix-id": id, "svix-timestamp": timestamp, "svix-signature": signature } = r.headers;
      new svix.Webhook(r.secret).verify(r.body, { "svix-id": id, "svix-timestamp": timestamp, "svix-signature": signature });
      return true;
    } catch (e) {
      if (e.name !== "WebhookVerificationError" && e.constructor.name !== "WebhookVerificationError") throw e;
      return false;
    }
  },
};

const out = [];
for (const r of JSON.parse(readFileSync(0, "utf8"))) {
  out.push(await verifiers[r.vendor](r));
}
console.log(JSON.stringify(out));
