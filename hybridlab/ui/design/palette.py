"""The palette: components by kind with search; a click adds one to the design."""

from __future__ import annotations

import functools
import re
from collections import Counter
from typing import Any

import streamlit as st

from hybridlab.architecture import library
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.design import actions
from hybridlab.ui.design.about import about_button

_TITLES = {
    "token_mixer": "Token mixers",
    "channel_mixer": "Channel mixers",
    "merge": "Joins",
    "norm": "Norms",
    "router": "Routers",
    "input": "Inputs",
    "head": "Heads",
}
_PLACES = {"after": "After it", "beside": "Beside it", "inside": "Inside it"}
_HELP = (
    "After: the next step. Beside: a second branch that reads the same input; a sum joins both. "
    "Inside: at the end of the selected group."
)
_FIRST = 10
"""Entries shown before somebody asks for all: each edit draws them all anew, and forty take longer than the rest."""
_ALL = "palette_all"
_USE = re.compile(r"\buse: *(\w+)")


def palette() -> None:
    """Show what can be added, found by word or by kind, and where it goes."""
    entries = predictions.components()
    words = st.text_input(
        "Find a component",
        key="palette.search",
        placeholder="Search the palette, e.g. mamba",
        label_visibility="collapsed",
        icon=":material/search:",
        max_chars=60,
    )
    kinds = [kind for kind in _TITLES if any(entry["kind"] == kind for entry in entries)]
    kind = st.pills(
        "Kind",
        kinds,
        key="palette.kind",
        default="token_mixer" if "token_mixer" in kinds else None,
        format_func=lambda name: _TITLES[name],
        label_visibility="collapsed",
        persist_state="session",
    )
    where = _where()
    found = [entry for entry in entries if _matches(entry, words, kind)]
    if not found:
        st.caption("Nothing found. Try another word, or choose another kind.")
    everything = bool(state.keep(_ALL, False))
    found.sort(key=lambda entry: -_presets_with()[entry["name"]])
    for entry in found if everything else found[:_FIRST]:
        _entry(entry, where)
    if len(found) > _FIRST:
        st.button(
            "Only the most used" if everything else f"All {len(found)}",
            key="palette.all",
            type="tertiary",
            icon=":material/unfold_less:" if everything else ":material/unfold_more:",
            on_click=state.put,
            args=(_ALL, not everything),
            help="Those that most presets use stand first.",
        )
    about_button(str((found or entries)[0]["name"]), "palette.about", "Look components up")


@functools.cache
def _presets_with() -> Counter[str]:
    """Return in how many presets each component stands."""
    return Counter(name for entry in library.presets() for name in set(_USE.findall(entry.text())))


def _where() -> str:
    path = actions.selected()
    if path is None:
        st.caption("New nodes go to the end. Select a node to choose another place.")
        return "after"
    node = actions.nodes()[path]
    options = ["after", "beside", "inside"] if node.is_group else ["after", "beside"]
    chosen = st.segmented_control(
        f"Add to {shell.escaped(node.id[:40])}",
        options,
        default="after",
        key=f"palette.where.{len(options)}",
        format_func=lambda name: _PLACES[name],
        help=_HELP,
    )
    return chosen or "after"


def _matches(entry: dict[str, Any], words: str, kind: str | None) -> bool:
    if not words.strip():
        return kind is None or entry["kind"] == kind
    text = f"{entry['name']} {entry['title']} {entry['summary']} {entry['kind']}".lower()
    return all(word in text for word in words.lower().split())


def _entry(entry: dict[str, Any], where: str) -> None:
    name, paper = entry["name"], str(entry["paper"])
    source = f" [Paper]({paper})" if paper.startswith("https://") else ""
    st.button(  # one element an entry: each edit draws them all
        f"{entry['title']} :gray[{shell.escaped(entry['cost'])}]",
        key=f"add.{name}",
        icon=":material/add:",
        on_click=actions.add,
        args=(name, where),
        help=f"Add {name}. {entry['summary']} Cost in length: {entry['cost']}.{source}",
    )
