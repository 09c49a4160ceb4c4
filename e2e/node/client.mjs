// One session of an npm client with the gateway, as JSON on stdout: node client.mjs sdk|client, the rest by environment.
// PLAN is {"calls": [tool…], "arguments": {…}, "denied": tool, "read": uri, "prompt": name}.
//
// Without TOKEN the client signs in: it prints {"authorize": url} as a first line, and reads the address that the browser
// was sent to from stdin. A session that it began so also shows that it gets new tokens by itself.
import { createInterface } from 'node:readline/promises';

const [kind] = process.argv.slice(2);
const { URL: endpoint, TOKEN: token, REDIRECT: redirectUrl } = process.env;
const plan = JSON.parse(process.env.PLAN);
const info = { name: 'e2e-' + kind, version: '1.0.0' };

// What a client keeps between its steps (OAuthClientProvider of both packages).
const kept = { refreshed: 0 };
const authProvider = {
  redirectUrl,
  clientMetadata: {
    client_name: info.name, redirect_uris: [redirectUrl], token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
  },
  state: () => (kept.state ??= crypto.randomUUID()),
  clientInformation: () => kept.client,
  saveClientInformation: (c) => { kept.client = c; },
  tokens: () => kept.tokens,
  saveTokens: (t) => { kept.tokens = t; kept.refreshed++; },
  redirectToAuthorization: (url) => console.log(JSON.stringify({ authorize: String(url) })),
  saveCodeVerifier: (v) => { kept.verifier = v; },
  codeVerifier: () => kept.verifier,
  saveDiscoveryState: (d) => { kept.discovery = d; },
  discoveryState: () => kept.discovery,
};
const options = token ? { requestInit: { headers: { Authorization: `Bearer ${token}` } } } : { authProvider };

const sdk = kind === 'sdk'
  ? { ...(await import('@modelcontextprotocol/sdk/client/index.js')), ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')) }
  : await import('@modelcontextprotocol/client');
const negotiate = kind === 'sdk' ? undefined : { versionNegotiation: { mode: 'auto' } };
const connect = async () => {
  const client = new sdk.Client(info, negotiate);
  const transport = new sdk.StreamableHTTPClientTransport(new URL(endpoint), options);
  try {
    await client.connect(transport);
  } catch (e) {
    return { transport, refused: e };
  }
  return { client, transport };
};

let { client, transport, refused } = await connect();
if (refused) {
  if (token || refused.constructor.name !== 'UnauthorizedError') throw refused;
  const lines = createInterface({ input: process.stdin });
  const back = new URL((await lines[Symbol.asyncIterator]().next()).value);
  lines.close();
  if (back.searchParams.get('state') !== kept.state) throw new Error('another state');
  if (kind === 'sdk') await transport.finishAuth(back.searchParams.get('code'));
  else await transport.finishAuth(back.searchParams);
  ({ client, transport, refused } = await connect());
  if (refused) throw refused;
}

const text = (result) => (result.isError ? 'tool error: ' : '') + result.content.map((c) => c.text).join('');
const out = { version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion, session: transport.sessionId ?? '' };
out.tools = (await client.listTools()).tools.map((t) => t.name);
out.prompts = (await client.listPrompts()).prompts.map((p) => p.name);
out.resources = (await client.listResources()).resources.map((r) => r.uri);
out.calls = [];
for (const name of plan.calls) out.calls.push(text(await client.callTool({ name, arguments: plan.arguments })));
try {
  out.denied = 'allowed: ' + text(await client.callTool({ name: plan.denied, arguments: {} }));
} catch (e) {
  out.denied = `${e.code} ${e.message}`;
}
if (!token) kept.tokens = { ...kept.tokens, access_token: 'no-longer-good' }; // the next call needs a refresh
out.after = text(await client.callTool({ name: plan.calls[0], arguments: plan.arguments }));
out.refreshed = kept.refreshed - 1;
if (plan.read) {
  const read = await client.readResource({ uri: plan.read });
  out.read = read.contents[0].uri + ' ' + (read.contents[0].text?.length > 0);
}
if (plan.prompt) {
  const prompt = await client.getPrompt({ name: plan.prompt });
  out.prompt = prompt.messages.length > 0 ? prompt.messages[0].role : 'none';
}
await transport.terminateSession?.();
await client.close();
console.log(JSON.stringify(out));
process.exit(0);
