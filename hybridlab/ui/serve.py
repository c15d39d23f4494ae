"""Starts the page server: ``python -m hybridlab.ui.serve [options of streamlit run]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web import cli

from hybridlab.places import app_file


def serve(options: Sequence[str] = ()) -> None:
    """Run the app until it is stopped; ``options`` are those of ``streamlit run``.

    A folder called ``pages`` makes Streamlit think of its older kind of app until the first page has been drawn, so
    that a bookmark such as ``/train?run=…`` would be "not found" after a restart. ``st.navigation`` says otherwise, but
    only then; here it is said from the start.
    """
    PagesManager.uses_pages_directory = False
    sys.argv = ["streamlit", "run", str(app_file()), *options]
    cli.main(prog_name="hybridlab app")


if __name__ == "__main__":
    serve(sys.argv[1:])
