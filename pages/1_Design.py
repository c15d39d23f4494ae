"""The designer: an architecture as canvas, diagram, form and text, with its cost."""

import streamlit as st

from hybridlab.ui import shell, state
from hybridlab.ui.canvas.component import canvas
from hybridlab.ui.canvas.telling import keep_told
from hybridlab.ui.design import keeping, link, looking, merging, start
from hybridlab.ui.design.budget import budget_bar
from hybridlab.ui.design.comparison import comparison
from hybridlab.ui.design.fitting import fit_task
from hybridlab.ui.design.inspector import inspector
from hybridlab.ui.design.look import look, wait_for
from hybridlab.ui.design.palette import palette
from hybridlab.ui.design.picture import chosen_view, notices, picture, present_view
from hybridlab.ui.design.problems import problem_list
from hybridlab.ui.design.toolbar import toolbar
from hybridlab.ui.design.totals import ready, totals
from hybridlab.ui.design.tree import tree, tree_height

link.follow()
design = state.design()
if (shown := st.query_params.get(looking.QUERY)) is not None:
    looking.page(shown)
elif design is None or state.keep("design_choosing", False):
    start.chooser()
elif (merge := merging.present(design)) is not None:
    merging.page(merge)
elif ready():
    with st.container(
        key="canvas_told"
    ):  # nobody sees it: the style that comes with what is in it hides it
        if present_view() == "Canvas":
            keep_told(design)
    unkept = keeping.autosave(design)
    fit_task(design.text, design.history)
    known = look(design, state.shapes(), canvas=present_view() == "Canvas")
    # In a container, so that a line that comes and goes here does not move, and so restart, the canvas below, which is
    # drawn first: the browser shows its new costs while the rest is on its way. A design that was just opened has its
    # head first, though, which would else push the canvas down, from under the pointer.
    head, view = st.container(), present_view()
    opened = state.keep("design_headed", None) is not design
    state.put("design_headed", design)
    for part in ("head", "canvas") if opened else ("canvas", "head"):
        if part == "head":
            with head:
                toolbar(design, known)
                totals(known)
                with st.container(horizontal=True, vertical_alignment="center"):
                    chosen_view(known)
                    budget_bar(known.prediction)
                    wait_for(known)
                shell.problems(unkept)
        elif view == "Canvas":
            wide, right = st.columns([3.3, 1.1], gap="small")
            with wide:
                canvas(design, known)
                notices()
    if view == "Compare":
        wide, right = st.columns([3.3, 1.1], gap="medium")
        with wide:
            comparison(design, known)
            notices()
    elif view != "Canvas":
        parts, middle, right = st.columns([1.1, 2, 1.2], gap="medium")
        with parts:
            with st.container(height=tree_height(), border=True):
                tree(design, known)
            with st.container(height=620 - tree_height(), border=True):
                palette()
        with middle:
            picture(design, known, view)
            problem_list(known)
    with right, st.container(key="design.inspector", border=True):
        inspector(known, with_actions=view != "Canvas")
