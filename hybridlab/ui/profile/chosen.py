"""Which component is looked at, in every view of a profile, and the ways to the pages that act on it."""

from __future__ import annotations

import re

from hybridlab.ui import shell, state
from hybridlab.ui.arrive import SECTION
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.overview import CHOSEN
from hybridlab.ui.train.source import choose as choose_source

_REPEAT = re.compile(r"\.\d+(?=\.|$)")


def choose(component: str) -> None:
    """Look at a component; the overview's network shows it selected."""
    state.put(CHOSEN, _REPEAT.sub("", component))


def chosen() -> str:
    """Return the path of ids of the component that is looked at; empty where none is."""
    return state.keep(CHOSEN, "")


def node_of(opened: Opened, component: str) -> str | None:
    """Return the address of a component's node in the profiled design; None where the task supplied it."""
    architecture = state.parsed(opened.architecture)[0]
    if architecture is None:
        return None
    ids = _REPEAT.sub("", component)
    return next((address for address, path, _ in architecture.walk() if path == ids), None)


def design(opened: Opened, component: str) -> None:
    """Open the profiled design in the designer with a component's node selected."""
    current = state.design()
    if current is None or current.text != opened.architecture:
        current = state.open_design(opened.architecture, f"profile {opened.name}")
    current.selected = node_of(opened, component)
    shell.go(shell.DESIGN)


def act(opened: Opened, page: str) -> None:
    """Open a page that acts on the step that was profiled, with its design, task and batch.

    ``page`` is a name in ``_PAGES``; behind a slash stands the section at which it opens.
    """
    settings = dict(opened.figures.get("training") or {})
    choose_source(opened.architecture, None, f"profile {opened.name}", settings)
    name, _, section = page.partition("/")
    shell.go(_PAGES[name], **({SECTION: section} if section else {}))


_PAGES = {"memory": shell.MEMORY, "train": shell.TRAIN, "profile": shell.PROFILE}
"""Pages that take up a step, by their names in findings."""
