"""The server: pages, the worker that trains beside them, and files too large for a page.

streamlit run app.py
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tlcore import jobs
from tlcore.errors import TLError
from tlcore.supervisor import Supervisor
from tlcore.workspace import Workspace


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    """Keeps a warm worker for as long as the server lives."""
    supervisor = Supervisor(Workspace.default())
    supervisor.start()
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(supervisor.stop)


def exported(request: Request) -> Response:
    """Sends the zip that an export made, from the disk; a page would hold it in memory."""
    if request.url.hostname not in st.get_option("server.allowedHosts"):
        return PlainTextResponse("This address is not served here.", status_code=403)
    try:
        job = jobs.load(Workspace.default(), request.path_params["job_id"])
    except TLError as problem:
        return PlainTextResponse(f"{problem.message} {problem.hint}", status_code=404)
    if not job.product.is_file():
        return PlainTextResponse("This zip is not there any more.", status_code=404)
    return FileResponse(job.product, media_type="application/zip", filename="photos.zip")


class LateParts:
    """Keeps the browser from emptying a page because of a part of the page before it.

    A part that watches a job (`st.fragment(run_every=...)`) asks anew until the browser hears of
    the next page. Streamlit 1.67 answers a question that comes too late with a run of the page
    that it came from, of which nothing is left but the word that it has begun.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a connection on; of a WebSocket all but such a word."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        shown = ""

        async def say(message: Message) -> None:
            nonlocal shown
            said = ForwardMsg.FromString(message.get("bytes") or b"")
            page = said.new_session.page_script_hash
            if page and not said.metadata.run.fragment_ids:
                shown = page
            if page in ("", shown) or not shown:
                await send(message)

        await self._app(scope, receive, say)


app = st.App(
    "pages/_router.py",
    lifespan=lifespan,
    routes=[Route("/exports/{job_id}", exported)],
    middleware=[Middleware(LateParts)],
)
