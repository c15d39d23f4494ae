"""A timer draws the page again, but never while the page is drawn: clicks below it count."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from hybridlab.ui import again


def _page() -> None:
    import streamlit as st

    from hybridlab.ui.again import page_again

    st.fragment(page_again, run_every=60.0)()
    if st.button("Start"):
        st.session_state.started = st.session_state.get("started", 0) + 1


def test_a_click_below_counts_though_the_page_is_to_be_drawn_again() -> None:
    at = AppTest.from_function(_page).run()
    at.button[0].click().run()
    assert not at.exception and at.session_state.started == 1


@pytest.mark.parametrize(("drawn", "wanted"), [(None, []), ([], []), (["part"], ["app"])])
def test_only_a_timer_draws_the_page_again(
    drawn: list[str] | None, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    context = SimpleNamespace(fragment_ids_this_run=drawn)
    monkeypatch.setattr(again, "get_script_run_ctx", lambda: context)
    monkeypatch.setattr(st, "rerun", lambda *, scope: asked.append(scope))
    again.page_again()
    assert asked == wanted
