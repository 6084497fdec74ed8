"""The server: pages, and the worker that trains beside them.

streamlit run app.py
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
import streamlit as st

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


app = st.App("pages/_router.py", lifespan=lifespan)
