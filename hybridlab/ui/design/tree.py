"""The architecture as a list to walk with the arrow keys, and what can be done with the chosen node."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture.spec import Node
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.design import actions
from hybridlab.ui.design.look import Look
from hybridlab.ui.held import held_key, key_showing, renew
from hybridlab.ui.labels import distinct

_DOTS = {
    "input": "green",
    "token_mixer": "blue",
    "channel_mixer": "orange",
    "norm": "gray",
    "merge": "violet",
    "router": "red",
    "head": "green",
}
_KEY, _WORDS = "design.tree", "tree_words"


def tree_height() -> int:
    """Return the height of the list in pixels: as tall as its nodes, within what leaves room for the palette."""
    return max(110, min(290, 34 + 26 * len(actions.nodes())))


def tree(design: state.Design, known: Look) -> None:
    """Show every node on a line of its own, groups above what they hold; the chosen one is the selected node."""
    nodes = actions.nodes()
    if not nodes:
        st.info(
            "No nodes yet. Add the first one from the palette below."
            if known.architecture is None and "nodes: []" in design.text
            else "The text has errors; put them right in the YAML view.",
            icon=":material/info:",
        )
        return
    bad = {path for problem in known.errors for path in nodes if _within(problem.path, path)}
    kinds = {entry["name"]: str(entry["kind"]) for entry in predictions.components()}
    labels = distinct(
        {path: _label(path, node, kinds, path in bad) for path, node in nodes.items()}
    )
    chosen = design.selected if design.selected in nodes else None
    # A browser knows the chosen line by its words, so a line that reads otherwise now has to be chosen anew.
    words = labels.get(chosen or "", "")
    key = key_showing(_KEY, chosen)
    if state.keep(_WORDS, words) != words:
        key = renew(_KEY)
    state.put(_WORDS, words)
    st.radio(
        "Nodes, top to bottom",
        list(nodes),
        index=list(nodes).index(chosen) if chosen else None,
        format_func=lambda path: labels.get(path, path),
        key=key,
        on_change=_chosen,
        label_visibility="collapsed",
    )


def _chosen() -> None:
    """Select the chosen node; nobody can choose none, so none only says that a line has changed its words."""
    if path := st.session_state.get(held_key(_KEY)):
        actions.select(path)


def node_actions(path: str, node: Node) -> None:
    """Show what can be done with the selected node."""
    last = len(actions.siblings(path)) - 1
    place = actions.index_of(path)
    with st.container(horizontal=True, gap="xsmall"):
        _act("arrow_upward", "Move up", actions.move, (path, -1), place == 0)
        _act("arrow_downward", "Move down", actions.move, (path, 1), place == last)
        _act("content_copy", "Duplicate", actions.duplicate, (path,))
        if node.is_group:
            _act("unfold_less", "Take the nodes out of this group", actions.unwrap, (path,))
        else:
            _act("repeat", "Wrap in a group that repeats", actions.wrap, (path,))
        _act("delete", "Delete", actions.remove, (path,))


def _act(icon: str, help: str, click: object, args: tuple[object, ...], off: bool = False) -> None:
    st.button(
        f":material/{icon}:",
        key=f"node.{icon}",
        help=help,
        on_click=click,  # type: ignore[arg-type]
        args=args,
        disabled=off,
    )


def _label(path: str, node: Node, kinds: dict[str, str], bad: bool) -> str:
    indent = "\u2003" * path.count(".")
    flag = ":red[⚠] " if bad else ""
    if node.is_group:
        times = f" × {node.repeat}" if node.repeat > 1 else ""
        return f"{indent}{flag}▾ **{shell.escaped(node.id[:40])}{times}**"
    colour = _DOTS.get(kinds.get(node.use or "", ""), "gray")
    name = node.id if node.id == node.use else f"{node.id[:30]} ({(node.use or '')[:30]})"
    return f"{indent}{flag}:{colour}[●] {shell.escaped(name)}"


def _within(problem_path: str, path: str) -> bool:
    rest = problem_path.removeprefix(path)
    return problem_path.startswith(path) and (not rest or rest[0] in ".[")
