"""Lines that read alike are told apart, by a program and by the page that is made of them."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from hybridlab.ui.labels import distinct


def test_labels_that_are_unlike_stay_as_they_are() -> None:
    assert distinct({1: "one", 2: "two"}) == {1: "one", 2: "two"}


def test_labels_that_repeat_differ_and_look_the_same() -> None:
    found = distinct({"a": "10:00:00", "b": "10:00:00", "c": "other", "d": "10:00:00"})
    assert len(set(found.values())) == 4
    assert [label.replace("\u2060", "") for label in found.values()] == [
        "10:00:00",
        "10:00:00",
        "other",
        "10:00:00",
    ]
    assert found["a"] == "10:00:00"


def page() -> None:
    import streamlit as st

    from hybridlab.ui.labels import distinct

    labels = distinct({"newest": "10:00:00", "older": "10:00:00", "oldest": "10:00:00"})
    for show in (st.radio, st.selectbox):
        chosen = show("When", list(labels), format_func=lambda name: labels[name])
        st.text(chosen)


def test_each_of_three_lines_that_read_alike_can_be_chosen() -> None:
    at = AppTest.from_function(page).run()
    for name in ("older", "newest", "oldest"):
        at.radio[0].set_value(name)
        at.selectbox[0].set_value(name)
        at.run()
        assert [text.value for text in at.text] == [name, name]
