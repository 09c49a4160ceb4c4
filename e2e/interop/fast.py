"""A server made with fastmcp that has one of everything: python fast.py (stdio), or python fast.py PORT (HTTP)."""

import base64
import sys

from fastmcp import Context, FastMCP
from fastmcp.utilities.types import Image
from mcp.types import SamplingMessage, TextContent
from pydantic import BaseModel

server = FastMCP("fast", instructions="Use it to try things.")
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


class Sum(BaseModel):
    total: int
    terms: list[int]


@server.tool
def add(a: int, b: int) -> Sum:
    """Adds, and answers with structured content."""
    return Sum(total=a + b, terms=[a, b])


@server.tool
def pixel() -> Image:
    """A picture."""
    return Image(data=PIXEL, format="png")


@server.tool
async def count(to: int, ctx: Context) -> str:
    """Counts, and reports progress."""
    for n in range(to):
        await ctx.report_progress(n + 1, to)
    return f"counted to {to}"


@server.tool
async def ask(ctx: Context) -> str:
    """Asks the person."""
    answer = await ctx.elicit("What is your name?", response_type=str)
    return f"answer: {answer.action} {getattr(answer, 'data', '')}"


@server.tool
async def complete(ctx: Context) -> str:
    """Asks the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text="Say something."))
    answer = await ctx.session.create_message(messages=[message], max_tokens=20)
    return f"the model says: {answer.content.text}"


@server.tool
def fail() -> str:
    """Fails."""
    raise ValueError("as it must")


@server.prompt
def greet(who: str) -> str:
    """Greets."""
    return f"Say hello to {who}."


@server.resource("data://fast/config")
def config() -> dict:
    """A resource."""
    return {"colour": "blue"}


@server.resource("data://fast/items/{item}")
def item(item: str) -> str:
    """A resource of a template."""
    return f"item {item}"


if len(sys.argv) > 1:
    server.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False)
else:
    server.run(show_banner=False)
