"""A link to look only: it shows a version as it was, changes nobody's design, and says so where it leads nowhere."""

from __future__ import annotations

import pytest

from hybridlab.architecture import edit, library, versions
from hybridlab.architecture.shared import share
from hybridlab.ui.design import keeping
from tests.app.held import held, in_session, put_in_session
from tests.app.pages.conftest import Visitor

TEXT = library.find("jamba_mini").read_text(encoding="utf-8")
NEW = edit.set_parameter(TEXT, "nodes[0].nodes[2]", "heads", 8)


def view(visitor: Visitor, name: str):
    return visitor.give(held(visitor.at.button_group, "look.view"), name)


def test_the_owner_gets_a_link_that_shows_the_design_as_it_is_now(visitor) -> None:
    put_in_session(visitor.at, "design_first_view", "Diagram")
    visitor.open("1_Design", preset="jamba_mini")
    visitor.design.change(NEW)
    visitor.at.session_state["design.share_menu"] = True
    visitor.at.run()
    visitor._whole()
    link = visitor.component("design.copy_look")["text"]
    code = link.partition("?look=")[2]
    visitor.design.change(edit.set_field(NEW, "width", 32))
    visitor.at.run()
    other = Visitor()
    at = other.open("1_Design", look=code)
    assert [s.value for s in at.subheader] == [r"jamba\-mini"]
    assert "read only" in other.words()
    at = view(other, "YAML")
    assert [code.value for code in at.code] == [NEW.strip()]
    at = view(other, "Changes")
    assert "~ stage.attention: heads 4 → 8" in [code.value.strip() for code in at.code]
    other.until(lambda at: at.metric[0].value != "–")
    at = view(other, "Costs")
    assert at.get("plotly_chart")


def test_looking_changes_nothing_and_a_copy_is_the_visitors_own(visitor, home) -> None:
    code = share(NEW, TEXT).id
    put_in_session(visitor.at, "design_first_view", "Diagram")
    at = visitor.open("1_Design", look=code)
    keys = {
        widget.key for kind in (at.button, at.text_input, at.text_area, at.radio) for widget in kind
    }
    assert keys == {"look.copy"}, "nothing to edit with"
    assert in_session(at, "design") is None
    assert not (home / "versions").exists()
    for name in ("YAML", "Costs", "Changes", "Diagram"):
        view(visitor, name)
    assert visitor.component("look.diagram")["choosable"] is False
    at = visitor.press("look.copy")
    assert visitor.design.text == NEW
    assert visitor.design.saved_as is None
    assert "look" not in at.query_params
    visitor.design.change(TEXT)
    visitor.at.run()
    again = Visitor()
    again.open("1_Design", look=code)
    assert [c.value for c in view(again, "YAML").code] == [NEW.strip()]


def test_a_visitors_own_design_is_kept_while_looking_and_copying(visitor) -> None:
    put_in_session(visitor.at, "design_first_view", "Diagram")
    visitor.open("1_Design", preset="lstm_mini")
    visitor.design.change(edit.set_field(visitor.design.text, "width", 32))
    visitor.at.run()
    history, own = visitor.design.history, visitor.design.text
    code = share(NEW).id
    visitor.open("1_Design", look=code)
    assert visitor.design.text == own
    visitor.press("look.leave")
    assert visitor.design.text == own
    visitor.open("1_Design", look=code)
    assert "Changes" not in held(visitor.at.button_group, "look.view").options
    visitor.press("look.copy")
    assert visitor.design.text == NEW
    keeping.finish()
    assert versions.versions(history)[0].text == own


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("0" * 32, "is not on this server"),
        ("0" * 31, "cut or changed"),
        ("", "cut or changed"),
        ("<script>alert(1)</script>", "cut or changed"),
        ("../../etc/passwd", "cut or changed"),
        ("A" * 50_000, "cut or changed"),
    ],
    ids=["unknown", "cut", "empty", "script", "path", "long"],
)
def test_a_link_that_leads_nowhere_says_so_in_one_sentence(visitor, code, sentence) -> None:
    at = visitor.open("1_Design", look=code)
    (error,) = at.error
    assert sentence in error.value
    assert in_session(at, "design") is None
    visitor.press("look.leave")
    assert not visitor.at.error


def test_a_text_that_is_no_architecture_is_told(visitor) -> None:
    at = visitor.open("1_Design", look=share("<b>words</b>").id)
    (error,) = at.error
    assert "this is not an architecture" in error.value
