// One session of an npm client with the gateway, as JSON on stdout: node client.mjs sdk|client, the rest by environment.
// PLAN is {"calls": [{name, arguments}], "prompts": [{name, arguments}], "reads": [uri]}. The packages are those of ../node.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [kind] = process.argv.slice(2);
const { URL: endpoint, TOKEN: token, PACKAGES } = process.env;
const plan = JSON.parse(process.env.PLAN);
const require = createRequire(PACKAGES + '/');
const load = (name) => import(pathToFileURL(require.resolve(name)));
const sdk = kind === 'sdk'
  ? { ...(await load('@modelcontextprotocol/sdk/client/index.js')), ...(await load('@modelcontextprotocol/sdk/client/streamableHttp.js')), ...(await load('@modelcontextprotocol/sdk/types.js')) }
  : await load('@modelcontextprotocol/client');

const client = new sdk.Client({ name: 'interop-' + kind, version: '1.0.0' },
  { capabilities: { elicitation: {}, sampling: {} }, ...(kind === 'sdk' ? {} : { versionNegotiation: { mode: 'auto' } }) });
let asked = [];
const on = (method, schema, handle) => client.setRequestHandler(kind === 'sdk' ? schema : method, handle);
on('elicitation/create', sdk.ElicitRequestSchema, async (r) => { asked.push(r.params.message); return { action: 'accept', content: { value: 'Ann' } }; });
on('sampling/createMessage', sdk.CreateMessageRequestSchema, async () => ({ role: 'assistant', model: 'm', content: { type: 'text', text: 'hello' } }));
const transport = new sdk.StreamableHTTPClientTransport(new URL(endpoint), { requestInit: { headers: { Authorization: `Bearer ${token}` } } });
await client.connect(transport);

const out = { version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion ?? '', calls: [], prompts: [], reads: [] };
out.tools = (await client.listTools()).tools.map((t) => t.name);
out.prompt_names = (await client.listPrompts()).prompts.map((p) => p.name);
out.resources = (await client.listResources()).resources.map((r) => r.uri);
const each = async (to, requests, send) => {
  for (const request of requests) {
    let progressed = 0;
    asked = [];
    let text;
    try {
      text = JSON.stringify(await send(request, { onprogress: () => { progressed++; } }));
    } catch (e) {
      text = `error: ${e.code} ${e.message}`;
    }
    to.push(`${text} progress=${progressed} asked=${asked.join('; ')}`);
  }
};
await each(out.calls, plan.calls, (r, options) => (kind === 'sdk' ? client.callTool(r, undefined, options) : client.callTool(r, options)));
await each(out.prompts, plan.prompts, (r) => client.getPrompt(r));
await each(out.reads, plan.reads, (uri) => client.readResource({ uri }));
await client.close();
console.log(JSON.stringify(out));
process.exit(0);
