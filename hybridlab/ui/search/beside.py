"""Marks beside the canvas: what may vary in the selected node, and what the space of all marks comes to."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture.document import write_yaml
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.search.marking import follow, in_words, keys_of
from hybridlab.ui.search.marks import node_marks, widths
from hybridlab.ui.search.source import DESIGN, SOURCE, content_of_design
from hybridlab.ui.search.space import size_line, wait_for_space

_WAIT_S = 0.1


def in_search(design: state.Design, path: str | None) -> None:
    """Let the user mark what may vary in the node at a path, or the width; show what the space comes to."""
    architecture = state.parsed(design.text)[0]
    if architecture is None:
        st.caption("Once the text can be read, it can be marked what may vary.")
        return
    follow(architecture, design.history)
    about = st.container()
    if path is None:
        widths(architecture, design.history)
        marked = in_words(architecture, design.history)
        for ids, words in marked.items():
            st.markdown(f"**{shell.escaped(ids)}** {shell.escaped(words)}")
        if not marked:
            st.caption(
                "Let nodes vary in a search by the switch in the head of each, which shows under the pointer, or by M."
            )
    for at, ids, node in architecture.walk():
        if at == path:
            if keys_of(node):
                node_marks(ids, node, design.history)
            else:
                st.caption("Nothing can vary here: this component is not in the palette.")
    with about, shell.told():
        _space(design)


def _space(design: state.Design) -> None:
    """Say what the space of all marks comes to, and lead to its search."""
    content = content_of_design(design.text, design.history)
    if content is None:
        return
    text = write_yaml(content)
    answer = predictions.survey_search(text, state.session_name(), _WAIT_S)
    if answer is None:
        wait_for_space(text)
    elif answer.problems:
        shell.problems(answer.problems)
    else:
        size_line(answer.value)
    if st.button(
        "Set up the search",
        icon=":material/arrow_forward:",
        key="node.search.go",
        help="On the Search page: what matters, how long, and what it will take.",
    ):
        state.put(SOURCE, DESIGN)
        shell.go(shell.SEARCH)
