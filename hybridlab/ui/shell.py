"""What every page shares: the start of the server, links between pages, and how errors are told."""

from __future__ import annotations

import functools
import gc
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import streamlit as st

from hybridlab.errors import HybridLabError, Problem
from hybridlab.runs.launcher import ensure_supervisor
from hybridlab.ui import predictions

ICON = str(Path(__file__).with_name("icon.png"))
"""The tab's icon as a file: a symbol by name would be fetched from another host."""
HOME = "pages/0_Home.py"
DESIGN = "pages/1_Design.py"
TRAIN = "pages/2_Train.py"
RUNS = "pages/3_Runs.py"
PROFILE = "pages/4_Profile.py"
MEMORY = "pages/5_Memory.py"
SEARCH = "pages/6_Search.py"


@functools.cache
def start() -> None:
    """Prepare the server process, once: warm a prediction process, keep the collector away from what stays."""
    for verb in ("catalogue", "tasks"):
        predictions.pool().submit(verb, {})
    threading.Thread(target=_call_supervisor, daemon=True).start()
    gc.collect()
    gc.freeze()


def _call_supervisor() -> None:
    """Start the supervisor ahead of the first run; where that fails, the first run says why."""
    with suppress(HybridLabError):
        ensure_supervisor(warm=True)


def background() -> Literal["light", "dark"] | None:
    """Return the background that the user looks at, or None where the browser has not said."""
    kind = st.context.theme.type
    return kind if kind in ("light", "dark") else None


def monospace(key: str) -> None:
    """Show the text area of a key in letters of one width, as its content is code."""
    name = "".join(c if c.isalnum() else "-" for c in key)
    st.html(
        f"<style>.st-key-{name} textarea {{font-family: 'Source Code Pro', monospace; "
        "font-size: 0.85rem; white-space: pre; overflow-x: auto}</style>"
    )


def go(page: str, **query: str) -> None:
    """Switch to another page, with parameters in its address."""
    st.switch_page(page, query_params=query or None)


@contextmanager
def told(where: str = "") -> Iterator[None]:
    """Tell errors raised on purpose as sentences instead of ending the page."""
    try:
        yield
    except HybridLabError as error:
        problems(error.problems, where)


def problems(found: Iterable[Problem], where: str = "") -> None:
    """Show problems as plain sentences, errors before warnings and hints."""
    order = ("error", "warning", "hint")
    ordered = sorted(found, key=lambda problem: order.index(problem.severity))
    for problem in ordered:
        text = escaped(problem.sentence())
        body = f"**{where}** {text}" if where else text
        if problem.severity == "error":
            st.error(body, icon=":material/error:")
        elif problem.severity == "hint":
            st.info(body, icon=":material/lightbulb:")
        else:
            st.warning(body, icon=":material/warning:")


_MARKDOWN = {ord(character): f"\\{character}" for character in "\\`*_{}[]()#+-.!|~>$:<&"}


_ICON = re.compile(r":(?=(?:material/)?[a-z+-][\w+-]*:)")
"""Where Streamlit begins an icon or an emoji, whatever stands before the colon; a word joiner, unseen, hinders it."""


def escaped(text: str) -> str:
    """Make text harmless inside Markdown: names and messages come from files that others wrote."""
    return _ICON.sub(":\u2060", " ".join(text.split())).translate(_MARKDOWN)


def facts(values: Mapping[str, str], help: Mapping[str, str] | None = None) -> None:
    """Show a row of figures with their names; each value carries its unit."""
    for column, (name, value) in zip(st.columns(len(values)), values.items(), strict=True):
        column.metric(name, value, help=(help or {}).get(name), border=True)
