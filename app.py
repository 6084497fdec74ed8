"""The server: pages, the worker that trains beside them, and files too large for a page.

streamlit run app.py
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

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


app = st.App("pages/_router.py", lifespan=lifespan, routes=[Route("/exports/{job_id}", exported)])
