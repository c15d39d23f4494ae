"""The findings view: what the profile says in sentences, each with its numbers and the way to where it is seen."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import streamlit as st

from hybridlab.ui import shell
from hybridlab.ui.profile import chosen
from hybridlab.ui.profile.figure import show_table
from hybridlab.ui.profile.opened import Opened
from hybridlab.units import format_bytes, format_flops, format_seconds

_SIGNS = {
    "warning": (":material/priority_high:", "orange", "weighty"),
    "hint": (":material/lightbulb:", "blue", "hint"),
    "note": (":material/info:", "gray", "about the measurement"),
}
_DESIGN, _PLAN, _TRAIN, _AGAIN = "design", "memory", "train", "profile"
"""Pages that act on findings, by their names in the table; a section of one stands behind a slash."""
_ACTS: Mapping[str, tuple[str, str, str]] = {
    _PLAN: (
        "Plan it on Memory",
        ":material/savings:",
        "This step on the Memory page: what less memory costs in time, and the plan for a budget.",
    ),
    f"{_PLAN}/compiled": (
        "Measure it compiled",
        ":material/bolt:",
        "This step on the Memory page, where it is measured compiled: a compiler makes one kernel of such a row.",
    ),
    f"{_PLAN}/tuning": (
        "Try layouts",
        ":material/swap_horiz:",
        "This step on the Memory page, where other layouts of the same work are measured.",
    ),
    _TRAIN: (
        "Set up its training",
        ":material/model_training:",
        "The Train page with this design, task and batch, where the batch is set.",
    ),
    _AGAIN: (
        "Profile it again",
        ":material/monitoring:",
        "The Profile page with this design, task and batch.",
    ),
}
"""What the button to each page says, its icon and what it helps with."""
_VIEWS = {
    "overview": "overview",
    "roofline": "roofline",
    "timeline": "timeline",
    "memory": "memory",
    "operators": "operators",
}


def findings(opened: Opened) -> None:
    """Show each finding with buttons to the view that shows it, its component, and the page that acts on it."""
    table = opened.table("findings")
    if table.empty:
        st.info(
            "Nothing stands out: no component takes a large share or is far from its prediction, little is copied, and "
            "nothing is done twice."
            if opened.has("findings")
            else "This profile has no findings.",
            icon=":material/check_circle:",
        )
        return
    for place, row in enumerate(table.to_dict("records")):
        _one(opened, place, row)
    told = table.copy()
    told["components"] = [", ".join(paths) for paths in told["components"]]
    with st.expander("As a table"):
        show_table(opened, "findings", told, title="Findings")


def _one(opened: Opened, place: int, row: Mapping[Hashable, Any]) -> None:
    icon, colour, words = _SIGNS[str(row["severity"])]
    components = [str(path) for path in row["components"]]
    with st.container(border=True, gap="small"):
        st.badge(words, icon=icon, color=colour)  # type: ignore[arg-type]
        st.markdown(f"**{shell.escaped(str(row['sentence']))}**")
        st.caption(shell.escaped(_evidence(str(row["evidence"]))))
        with st.container(horizontal=True):
            view = str(row["view"])
            st.button(
                f"Show in {_VIEWS.get(view, view)}",
                icon=":material/visibility:",
                key=f"{opened.key}.finding.{place}.view",
                on_click=_go,
                args=(opened, view, components[:1]),
            )
            known = [path for path in components if chosen.node_of(opened, path) is not None]
            if known:
                st.button(
                    "Select in the network",
                    icon=":material/schema:",
                    key=f"{opened.key}.finding.{place}.network",
                    on_click=_go,
                    args=(opened, "overview", known[:1]),
                    help=", ".join(map(shell.escaped, components[:8])),
                )
            page = str(row["page"])
            if page in _ACTS:
                label, icon, said = _ACTS[page]
                key = f"{opened.key}.finding.{place}.{page.partition('/')[0]}"
                if st.button(label, icon=icon, key=key, help=said):
                    chosen.act(opened, page)
            if (
                known
                and page.partition("/")[0] in (_DESIGN, _PLAN)
                and st.button(
                    "Open in Design",
                    icon=":material/edit:",
                    key=f"{opened.key}.finding.{place}.design",
                    help="The designer with this component selected.",
                )
            ):
                chosen.design(opened, known[0])


def _go(opened: Opened, view: str, components: list[str]) -> None:
    """Turn to a view with a component chosen, as a callback."""
    from hybridlab.ui.profile.look import show  # which lists this view among others

    for path in components:
        chosen.choose(path)
    show(opened, view)


def _evidence(text: str) -> str:
    """Write a finding's numbers with their units, which their names end in."""
    said = []
    for name, value in json.loads(text).items():
        stem, _, unit = name.rpartition("_")
        if not isinstance(value, (int, float)):
            said.append(f"{name.replace('_', ' ')}: {value}")
        elif unit in ("ms", "us"):
            seconds = value / (1e3 if unit == "ms" else 1e6)
            said.append(f"{(stem or 'time').replace('_', ' ')}: {format_seconds(seconds)}")
        elif "bytes" in name:
            title = name.replace("_bytes", "").replace("bytes_", "").replace("_", " ")
            said.append(f"{title}: {format_bytes(value)}")
        elif name == "flops":
            said.append(format_flops(value))
        else:
            said.append(f"{name.replace('_', ' ')}: {value:,.4g}")
    return ", ".join(said)
