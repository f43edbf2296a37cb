// The certified OpenID provider `oidc-provider`, as the stories need it: one client for browsers, one for the
// command line, people who are whoever they say they are. Every start makes new keys. It tells its issuer in its
// first line of output.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';

const { default: Provider } = await import(process.env.OIDC_PROVIDER);
const { port, redirect_uri } = JSON.parse(process.env.OIDC_SCENE);

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const key = { ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: `key-${process.pid}` };

const common = { id_token_signed_response_alg: 'ES256' };
const configuration = {
  clients: [
    {
      ...common,
      client_id: 'web',
      client_secret: 's3cret & more',
      redirect_uris: [redirect_uri],
      response_types: ['code'],
      grant_types: ['authorization_code'],
    },
    {
      ...common,
      client_id: 'cli',
      token_endpoint_auth_method: 'none',
      redirect_uris: [],
      response_types: [],
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    },
  ],
  jwks: { keys: [key] },
  cookies: { keys: ['for the stories alone'] },
  claims: { openid: ['sub'], email: ['email', 'email_verified', 'org'] },
  conformIdTokenClaims: false,
  pkce: { required: (_ctx, client) => client.clientId === 'web' },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
  },
  ttl: { IdToken: Number(process.env.OIDC_ID_TOKEN_SECONDS ?? 600) },
  findAccount: (_ctx, id) => ({
    accountId: id,
    // Who is called `name.org` belongs to that organisation.
    claims: async () => ({
      sub: id,
      email: `${id}@example.com`,
      email_verified: true,
      org: id.split('.')[1] ?? 'default',
    }),
  }),
};

const server = createServer();
server.listen(port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  server.on('request', new Provider(issuer, configuration).callback());
  console.log(`ISSUER ${issuer}`);
});
