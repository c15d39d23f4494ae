"""Starts the page server: ``python -m hybridlab.ui.serve [options of streamlit run]``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web import cli

from hybridlab.places import app_file

_NEW_OBJECTS = 20_000
"""Garbage is looked for after so many new objects; at Python's 700 that is many times while a page is drawn."""


def serve(options: Sequence[str] = ()) -> None:
    """Run the app until it is stopped; ``options`` are those of ``streamlit run``.

    A folder called ``pages`` makes Streamlit think of its older kind of app until the first page has been drawn, so
    that a bookmark such as ``/train?run=…`` would be "not found" after a restart. ``st.navigation`` says otherwise, but
    only then; here it is said from the start.
    """
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
    PagesManager.uses_pages_directory = False
    sys.argv = ["streamlit", "run", str(app_file()), *options]
    cli.main(prog_name="hybridlab app")


if __name__ == "__main__":
    serve(sys.argv[1:])
