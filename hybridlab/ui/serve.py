"""Starts the page server: ``python -m hybridlab.ui.serve [--server.port=8501 and other Streamlit options]``."""

from __future__ import annotations

import faulthandler
import gc
import json
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from streamlit.runtime.pages_manager import PagesManager
from streamlit.starlette import App

from hybridlab.errors import HybridLabError
from hybridlab.places import app_file
from hybridlab.ui import predictions
from hybridlab.ui.canvas import ahead
from hybridlab.ui.kept_files import keep_downloads

_NEW_OBJECTS = 20_000
"""Garbage is looked for after so many new objects; at Python's 700 that is many times while a page is drawn."""


def serve(options: Sequence[str] = ()) -> None:
    """Run the app until it is stopped; ``options`` are those of ``streamlit run``, as ``--name=value``.

    A folder called ``pages`` makes Streamlit think of its older kind of app until the first page has been drawn, so
    that a bookmark such as ``/train?run=…`` would be "not found" after a restart. ``st.navigation`` says otherwise, but
    only then; here it is said from the start.

    Where a server seems to hang, ``kill -USR1`` has it write where each of its threads stands, to its standard error.
    """
    if hasattr(signal, "SIGUSR1"):
        # Not by faulthandler.register, which reads the frames of threads that go on meanwhile, and may fall over them.
        signal.signal(signal.SIGUSR1, lambda *_: faulthandler.dump_traceback())
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
    PagesManager.uses_pages_directory = False
    ahead.Desks.served = True
    keep_downloads()
    sys.argv = [str(app_file())]  # Streamlit looks for its settings beside it
    app = App(app_file(), routes=[ahead.ROUTE], lifespan=_warm)
    app.run(config=dict(map(_option, options)))


@asynccontextmanager
async def _warm(_: App) -> AsyncIterator[None]:
    """Have the palette read and the prediction processes started while the first visitor's browser starts."""
    threading.Thread(target=_ask, daemon=True, name="warm").start()
    yield


def _ask() -> None:
    with suppress(HybridLabError):  # whoever opens a page is told why
        predictions.components()
        predictions.tasks()


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.removeprefix("--").partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    serve(sys.argv[1:])
