"""A table goes on from the rows it began with while its own cells change, and begins anew where others changed them."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def page() -> None:
    import streamlit as st

    from hybridlab.ui.train.rows import begun, took

    rows = st.session_state.setdefault("rows", [{"name": "first"}])
    key, shown = begun("table", rows)
    st.text_input("cell", key=key)
    st.text(key)
    st.text(" ".join(row["name"] for row in shown))
    if written := st.session_state.pop("written", None):  # what a person wrote into the table
        st.session_state["rows"] = written
        took("table", written)


def shown(at: AppTest) -> tuple[str, str]:
    assert not at.exception
    key, names = (text.value for text in at.text)
    return key, names


def test_what_is_written_into_the_table_does_not_make_it_another_one() -> None:
    at = AppTest.from_function(page).run()
    before = shown(at)
    assert before == ("table", "first")
    at.session_state["written"] = [{"name": "first"}, {"name": "second"}]
    at.run()
    assert shown(at.run()) == before, "its rows are the table's own, so it goes on as it began"


def test_rows_that_were_changed_elsewhere_make_it_another_one() -> None:
    at = AppTest.from_function(page).run()
    key, _ = shown(at)
    at.session_state["rows"] = [{"name": "suggested"}]
    other, names = shown(at.run())
    assert names == "suggested" and other != key
    assert shown(at.run()) == (other, names)


def test_what_was_written_and_then_changed_elsewhere_begins_anew() -> None:
    at = AppTest.from_function(page).run()
    at.session_state["written"] = [{"name": "mine"}]
    key, _ = shown(at.run())
    at.session_state["rows"] = []
    other, names = shown(at.run())
    assert (names, other != key) == ("", True)
