"""Searches: set up what may vary and what matters, watch the front grow, choose a point and go on with it."""

import streamlit as st

from hybridlab.ui.design.totals import ready
from hybridlab.ui.search.look import look
from hybridlab.ui.search.setup import STUDY, setup
from hybridlab.ui.search.studies import earlier


def new_search() -> None:
    """Arrange the three steps of a search, and the searches that were made before."""
    st.title("Search", anchor=False)
    left, right = st.columns([2, 1], gap="medium")
    with right, st.container(border=True):
        st.markdown("**Searches made before**")
        earlier()
    with left:
        setup()


if ready():
    if study := st.query_params.get(STUDY, ""):
        look(study)
    else:
        new_search()
