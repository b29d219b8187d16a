"""All code that relies on Gradio's internals.

Each function names the internals it relies on, and `tests/pages/test_gradio_patches.py` fails when Gradio changes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import gradio.mcp
import gradio.routes
import gradio.utils
import jinja2
from gradio.context import Context, LocalContext
from gradio.events import api

from pages.html import render

logger = logging.getLogger(__name__)

_PREVIEW = re.compile(r'<meta\s+(?:property="og:|name="twitter:)[^>]*>')


def current_page() -> gr.Blocks:
    """Return the page being built, whose `load` event fires when it is opened.

    Relies on `Context.root_block`.

    Raises:
        RuntimeError: No page is being built.
    """
    page = Context.root_block
    if page is None:
        raise RuntimeError("No page is being built. Call this inside `with gr.Blocks()`.")
    return page


def add_endpoint(handler: Callable[..., Any]) -> None:
    """Add a named API endpoint to the page being built, without components.

    Relies on `gradio.events.api`, which is documented as `gr.api` but not exported.
    """
    api(handler, api_name=getattr(handler, "__name__"))  # noqa: B009 - mypy: not every callable has one


def current_request() -> gr.Request | None:
    """Return the current request; None outside a handler.

    Relies on `LocalContext.request`, which is also set for handlers without a request parameter.
    """
    return LocalContext.request.get(None)


def current_session() -> str | None:
    """Return the id of the browser page of the request, new after each reload; None outside a handler."""
    request = current_request()
    return None if request is None else request.session_hash


def current_address() -> str | None:
    """Return the URL of this app in the browser, without a trailing slash; None outside a handler.

    Relies on `gr.Request.request` being Starlette's request.
    """
    request = current_request()
    if request is None or request.request is None:
        return None
    return str(request.request.base_url).rstrip("/")


def serve_file(path: Path) -> str:
    """Serve a file publicly, and return its URL relative to any page.

    Relies on the route `gradio_api/file=`.
    """
    gr.set_static_paths([path])
    return f"gradio_api/file={quote(path.as_posix())}"


def disable_heartbeat() -> None:
    """Stop pages from keeping a connection open.

    A browser opens at most six connections to one address, so the seventh tab would never load. The heartbeat only
    frees a session's state; `launch(state_session_capacity=...)` bounds that instead.

    Relies on `gradio.utils.connect_heartbeat`, which returns whether a page needs a heartbeat.
    """
    gradio.utils.connect_heartbeat = lambda *_, **__: False


def replace_preview(title: str, description: str) -> None:
    """Set the title and description of link previews, replacing Gradio's, which include its banner.

    Relies on `gradio.routes.templates`, the Jinja templates of all pages, with the tags of Open Graph and Twitter.
    """
    templates = gradio.routes.templates.env
    loader = templates.loader
    assert loader is not None
    own = render(
        '<meta name="description" content="{{ description }}" /><meta property="og:type" content="website" />'
        '<meta property="og:title" content="{{ title }}" />'
        '<meta property="og:description" content="{{ description }}" />'
        '<meta name="twitter:card" content="summary" />',
        title=title,
        description=description,
    )

    def source(name: str) -> str:
        text = loader.get_source(templates, name)[0]
        return _PREVIEW.sub("", text).replace("<head>", f"<head>{own}", 1)

    templates.loader = jinja2.FunctionLoader(source)
    templates.cache = None


def start_queue(app: gr.Blocks, concurrency_limit: int) -> None:
    """Start the queue of `app` so that an idle app uses little CPU time.

    By default Gradio polls for events a thousand times per second, which takes 5% of a core, and each finished event
    waits for statistics over all earlier events.

    Relies on `Queue.sleep_when_free` and `Queue.progress_update_sleep_when_free`, in seconds, and on
    `GRADIO_ANALYTICS_CACHE_FREQUENCY`, the number of events between two statistics.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
    app.queue(default_concurrency_limit=concurrency_limit)
    app._queue.sleep_when_free, app._queue.progress_update_sleep_when_free = 0.01, 0.1


def restrict_tools(app: gr.Blocks, read_only: AbstractSet[str]) -> bool:
    """Limit the tools of the MCP server to the endpoints in `read_only`; return whether to start the server.

    By default every endpoint is a tool, including those that delete. The server must not start unless the tools that it
    lists, and those that it would call, are exactly `read_only`.

    Relies on `GradioMCPServer.get_tool_to_endpoint`, whose keys are the only tools that are listed or called.

    Args:
        app: The app with all endpoints.
        read_only: Names of endpoints, without a slash.
    """
    all_tools = gradio.mcp.GradioMCPServer.get_tool_to_endpoint

    def only_read_only(server: gradio.mcp.GradioMCPServer) -> dict[str, str]:
        return {tool: name for tool, name in all_tools(server).items() if name.lstrip("/") in read_only}

    # Patches the class, so that it applies to all instances.
    setattr(gradio.mcp.GradioMCPServer, "get_tool_to_endpoint", only_read_only)  # noqa: B010 - mypy: not a variable
    try:
        offered = _offered_tools(app)
    except Exception:  # any incompatibility disables the server
        logger.exception("The MCP server is disabled: listing its tools failed. Install the gradio of constraints.txt.")
        return False
    extra, missing = sorted(offered - read_only), sorted(read_only - offered)
    if extra or missing:
        logger.error(
            "The MCP server is disabled, because its tools are not the read-only endpoints. Extra: %s. Missing: %s. "
            "Install the gradio of constraints.txt, or correct READ_ONLY in pages/api.py.",
            ", ".join(extra) or "none",
            ", ".join(missing) or "none",
        )
    return not (extra or missing)


def _offered_tools(app: gr.Blocks) -> set[str]:
    """The endpoints of all tools that are listed or callable."""
    from mcp.shared.memory import create_connected_server_and_client_session

    server: Any = gradio.mcp.GradioMCPServer(app)

    async def listed() -> list[str]:
        async with create_connected_server_and_client_session(server.mcp_server) as session:
            return [tool.name for tool in (await session.list_tools()).tools]

    endpoints = {tool: name.lstrip("/") for tool, name in server.tool_to_endpoint.items()}
    return {endpoints.get(tool, tool) for tool in asyncio.run(listed())} | set(endpoints.values())
