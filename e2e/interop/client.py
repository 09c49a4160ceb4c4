"""One session of a Python client with the gateway, as JSON on stdout: python client.py mcp|fastmcp, the rest by environment.

PLAN is {"calls": [{"name", "arguments"}], "prompts": [{"name", "arguments"}], "reads": [uri]}.
"""

import asyncio
import json
import os
import sys

url, token, plan = os.environ["URL"], os.environ["TOKEN"], json.loads(os.environ["PLAN"])
out = {"calls": [], "prompts": [], "reads": []}
progressed, asked = [], []


def dump(value):
    return json.dumps(value, default=lambda o: o.model_dump(mode="json") if hasattr(o, "model_dump") else str(o))


async def each(kind, requests, send):
    for request in requests:
        progressed.clear()
        asked.clear()
        try:
            text = dump(await send(request))
        except Exception as e:  # what a person would see
            text = f"error: {type(e).__name__} {e}"
        out[kind].append(text + f" progress={len(progressed)} asked={'; '.join(asked)}")


async def progress(done, total=None, message=None):
    progressed.append(done)


async def with_mcp():
    import httpx2
    import mcp
    from mcp import types
    from mcp.client.streamable_http import streamable_http_client

    async def elicit(context, params):
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={"value": "Ann"})

    async def sample(context, params):
        return types.CreateMessageResult(role="assistant", model="m", content=types.TextContent(type="text", text="hello"))

    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        async with mcp.Client(streamable_http_client(url, http_client=http), elicitation_callback=elicit, sampling_callback=sample) as c:
            out["version"] = c.protocol_version
            out["tools"] = [t.name for t in (await c.list_tools()).tools]
            out["prompt_names"] = [p.name for p in (await c.list_prompts()).prompts]
            out["resources"] = [str(r.uri) for r in (await c.list_resources()).resources]
            await each("calls", plan["calls"], lambda r: c.call_tool(r["name"], r["arguments"], progress_callback=progress))
            await each("prompts", plan["prompts"], lambda r: c.get_prompt(r["name"], r["arguments"]))
            await each("reads", plan["reads"], c.read_resource)


async def with_fastmcp():
    from fastmcp import Client
    from fastmcp.client.transports import StreamableHttpTransport
    from mcp import types

    async def elicit(message, response_type, params, context):
        asked.append(message)
        return {"value": "Ann"}

    async def sample(messages, params, context):
        return "hello"

    async with Client(StreamableHttpTransport(url, auth=token), elicitation_handler=elicit, sampling_handler=sample, progress_handler=progress) as c:
        out["version"] = c.initialize_result.protocol_version if c.initialize_result else "2026-07-28"
        out["tools"] = [t.name for t in await c.list_tools()]
        out["prompt_names"] = [p.name for p in await c.list_prompts()]
        out["resources"] = [str(r.uri) for r in await c.list_resources()]
        await each("calls", plan["calls"], lambda r: c.call_tool_mcp(r["name"], r["arguments"], progress_handler=progress))
        await each("prompts", plan["prompts"], lambda r: c.get_prompt(r["name"], r["arguments"]))
        await each("reads", plan["reads"], c.read_resource)


asyncio.run({"mcp": with_mcp, "fastmcp": with_fastmcp}[sys.argv[1]]())
print(json.dumps(out))
