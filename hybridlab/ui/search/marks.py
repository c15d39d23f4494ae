"""Marks on a design, as fields: for every node what may vary, and among which values."""

from __future__ import annotations

from typing import Any

import streamlit as st

from hybridlab.architecture.spec import Architecture, Node
from hybridlab.search.decisions import FUSION, FUSIONS, PLAN, PRECISION, PRECISIONS
from hybridlab.ui import predictions, shell
from hybridlab.ui.search import kept
from hybridlab.ui.search.marking import (
    COMPONENT,
    ORDER,
    REPEAT,
    follow,
    keys_of,
    label_of,
    own_component,
    prefix_of,
    search_of,
    taken,
    text_of,
    values_of,
)

MOST_NODES = 60
_FUSED = dict(zip(FUSIONS, ("nothing fused", "all that can be"), strict=True))
_EXPLAINED = {
    REPEAT: "How often the group is repeated.",
    ORDER: "Orders of the nodes in the group, by their names with spaces between.",
}


def marks(architecture: Architecture, history: str) -> dict[str, Any]:
    """Let the user mark what may vary; return a search file's ``search``."""
    follow(architecture, history)
    widths(architecture, history)
    nodes = [(ids, node) for _, ids, node in architecture.walk()]
    for ids, node in nodes[:MOST_NODES]:
        keys = keys_of(node)
        if not keys:
            continue
        marked = taken(history, ids, node)
        title = f"{ids} · {'group' if node.is_group else node.use}"
        if marked:
            title += f" · {', '.join(label_of(one, keys) for one in marked)}"
        key = f"{prefix_of(history)}.{ids}.box"
        with st.expander(shell.escaped(title), key=key, expanded=bool(marked)):
            node_marks(ids, node, history)
    if len(nodes) > MOST_NODES:
        st.caption(
            f"{len(nodes) - MOST_NODES} more nodes can be marked on the canvas or in a search file."
        )
    return search_of(architecture, history)


def widths(architecture: Architecture, history: str) -> None:
    """Show what varies for the whole architecture: widths, and how its training goes (memory, precision, fusion)."""
    width = architecture.width
    kept.text(
        "Widths",
        f"{prefix_of(history)}.width",
        "",
        placeholder=f"{width // 2}, {width}, {width * 2}",
        help=f"The widths to choose among, such as {width // 2}, {width}; empty: {width} always.",
    )
    kept.text(
        "Memory plans",
        f"{prefix_of(history)}.{PLAN}",
        "",
        placeholder="none, 75%, 50%",
        help="How much of its step's memory a training may take: what is over is computed again in backward, and what "
        "is learnt stays the same. Shares of the step's own peak or amounts such as 40MiB; empty: no plan.",
    )
    kept.several(
        "Precisions",
        f"{prefix_of(history)}.{PRECISION}",
        {one: one for one in PRECISIONS},
        [],
        help="Number formats of the arithmetic to choose among; weights stay in float32. Memory is predicted for each, "
        "time is not: trade a timed step instead. Empty: the training's own.",
    )
    kept.several(
        "Fusion",
        f"{prefix_of(history)}.{FUSION}",
        _FUSED,
        [],
        help="Whether linear maps that read one tensor run as one product; what is learnt is the same but for "
        "rounding. Memory is predicted for both, time is not: trade a timed step instead. Empty: nothing is fused.",
    )


def node_marks(ids: str, node: Node, history: str) -> None:
    """Show one node's marks and their values."""
    keys, prefix = keys_of(node), prefix_of(history)
    marked = kept.several(
        "May vary", f"{prefix}.{ids}", {key: label_of(key, keys) for key in keys}, []
    )
    for key in marked:
        name, field = f"{prefix}.{ids}.{key}", keys[key]
        if key == COMPONENT:
            _components(node, name)
            continue
        text = kept.text(
            f"{label_of(key, keys)}: values",
            name,
            text_of(node, key, field),
            help=field.explanation if field is not None else _EXPLAINED[key],
        )
        if not values_of(text, field):
            st.error("Values are written with commas between them.", icon=":material/error:")


def _components(node: Node, name: str) -> None:
    own = predictions.component(str(node.use)) or {}
    fitting = {
        str(entry["name"]): str(entry["title"])
        for entry in predictions.components()
        if entry["kind"] == own.get("kind")
    }
    kept.several("Components that may stand here", name, fitting, own_component(node))
