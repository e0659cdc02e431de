// An OAuth 2.0 server with two clients that differ in how they authenticate, on a free port of
// 127.0.0.1, which it prints. It ends with its standard input.
import { createRequire } from "node:module";
import { createServer } from "node:http";

const require = createRequire(process.env.NODE_MODULES + "/");
const { default: Provider } = await import(require.resolve("oidc-provider"));

for (const level of ["info", "warn", "log"]) console[level] = () => {}; // it warns of keys for development
const client = (id, secret, method) => ({
  client_id: id, client_secret: secret, token_endpoint_auth_method: method,
  grant_types: ["client_credentials"], response_types: [], redirect_uris: [], scope: "eventos:escrever eventos:ler",
});
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      client("academia:centro 1", "s3cr3t+/=: & 100%", "client_secret_basic"),
      client("academia-post", "s3cr3t+/=: & 100%", "client_secret_post"),
    ],
    scopes: ["eventos:escrever", "eventos:ler", "admin"],
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true, allowedPolicy: () => true },
      devInteractions: { enabled: false },
    },
    ttl: { ClientCredentials: () => 600 },
  });
  server.on("request", provider.callback());
  process.stdout.write(`${issuer}\n`);
});
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
