// One session of an npm client with the gateway, as JSON on stdout: node client.mjs sdk|client, the rest by environment.
// PLAN is {"calls": [tool…], "denied": tool, "read": uri, "prompt": name}; every call has the argument {"message": "hello"}.
const [kind] = process.argv.slice(2);
const { URL: endpoint, TOKEN: token } = process.env;
const plan = JSON.parse(process.env.PLAN);
const info = { name: 'e2e-' + kind, version: '1.0.0' };

let client, transport;
const requestInit = { headers: { Authorization: `Bearer ${token}` } };
if (kind === 'sdk') {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  client = new Client(info);
  transport = new StreamableHTTPClientTransport(new URL(endpoint), { requestInit });
} else {
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  client = new Client(info, { versionNegotiation: { mode: 'auto' } });
  transport = new StreamableHTTPClientTransport(new URL(endpoint), { requestInit });
}
await client.connect(transport);

const text = (result) => (result.isError ? 'tool error: ' : '') + result.content.map((c) => c.text).join('');
const out = { version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion, session: transport.sessionId ?? '' };
out.tools = (await client.listTools()).tools.map((t) => t.name);
out.prompts = (await client.listPrompts()).prompts.map((p) => p.name);
out.resources = (await client.listResources()).resources.map((r) => r.uri);
out.calls = [];
for (const name of plan.calls) out.calls.push(text(await client.callTool({ name, arguments: { message: 'hello' } })));
try {
  out.denied = 'allowed: ' + text(await client.callTool({ name: plan.denied, arguments: {} }));
} catch (e) {
  out.denied = `${e.code} ${e.message}`;
}
out.after = text(await client.callTool({ name: plan.calls[0], arguments: { message: 'again' } }));
const read = await client.readResource({ uri: plan.read });
out.read = read.contents[0].uri + ' ' + (read.contents[0].text?.length > 0);
const prompt = await client.getPrompt({ name: plan.prompt });
out.prompt = prompt.messages.length > 0 ? prompt.messages[0].role : 'none';
await transport.terminateSession?.();
await client.close();
console.log(JSON.stringify(out));
process.exit(0);
