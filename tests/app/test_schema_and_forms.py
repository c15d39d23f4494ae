"""Forms are made from parameter schemas, and the server checks what the browser promised."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, Field
from streamlit.testing.v1 import AppTest

from hybridlab.training.spec import TrainSpec
from hybridlab.ui import forms
from hybridlab.ui.schema import fields, shown


class Params(BaseModel):
    heads: int = Field(4, ge=1, le=64, description="Number of heads.")
    ratio: float = Field(2.5, gt=0, lt=8, json_schema_extra={"unit": "x width"})
    window: int | None = Field(None, ge=1)
    rotary: bool = True
    kind: Literal["a", "b"] = "a"
    betas: tuple[float, float] = (0.9, 0.95)
    name: str = ""
    classes: int = Field(ge=2)


FIELDS = {field.name: field for field in fields(Params.model_json_schema())}


def test_kinds_units_and_limits_are_read() -> None:
    kinds = {name: field.kind for name, field in FIELDS.items()}
    assert kinds == {
        "heads": "integer",
        "ratio": "number",
        "window": "integer",
        "rotary": "boolean",
        "kind": "choice",
        "betas": "list",
        "name": "text",
        "classes": "integer",
    }
    assert FIELDS["ratio"].label == "Ratio (x width)"
    assert FIELDS["window"].optional
    assert FIELDS["classes"].required
    assert (
        FIELDS["heads"].explanation
        == "Number of heads. Allowed: at least 1, at most 64. Default: 4."
    )
    assert FIELDS["kind"].choices == ("a", "b")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("heads", [1, 64], [0, 65, 2.5, True, None, "4"]),
        ("ratio", [0.1, 7.9, 3], [0, 8, float("nan"), float("inf"), "1"]),
        ("window", [None, 1], [0]),
        ("rotary", [True], [1, None]),
        ("kind", ["a"], ["c", None]),
        ("betas", [[0.9, 0.95]], ["0.9", None]),
        ("name", [""], [3]),
    ],
)
def test_values_are_refused_in_words(name, good, bad) -> None:
    for value in good:
        assert FIELDS[name].refusal(value) == ""
    for value in bad:
        assert FIELDS[name].refusal(value).startswith(FIELDS[name].label.partition(" (")[0])


def test_every_training_setting_has_a_form_field_with_help() -> None:
    for field in fields(TrainSpec.model_json_schema()):
        assert field.help, field.name


@pytest.mark.parametrize(
    ("value", "text"), [(None, "none"), (True, "on"), (0.05, "0.05"), ((0.9, 0.95), "0.9, 0.95")]
)
def test_values_read_as_people_write_them(value, text) -> None:
    assert shown(value) == text


def form() -> None:
    """A page with a form on values that the session keeps."""
    import streamlit as st

    from hybridlab.ui import forms
    from hybridlab.ui.schema import fields

    schema = {
        "properties": {
            "heads": {"type": "integer", "minimum": 1, "maximum": 8, "default": 4},
            "rate": {"type": "number", "exclusiveMinimum": 0, "default": 0.1},
            "on": {"type": "boolean", "default": False},
            "betas": {"type": "array", "default": [0.9, 0.95]},
            "window": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        }
    }
    values = st.session_state.setdefault("values", {})

    def change(name: str, value: object) -> None:
        st.session_state["values"] = {**st.session_state["values"], name: value}

    forms.parameters(fields(schema), values, "form", change)


def test_changes_reach_the_state_and_defaults_show() -> None:
    page = AppTest.from_function(form).run()
    assert page.number_input(key="form.heads").value == 4
    page.number_input(key="form.heads").set_value(8).run()
    page.toggle(key="form.on").set_value(True).run()
    page.text_input(key="form.betas").set_value("0.8, 0.9").run()
    page.number_input(key="form.window").set_value(16).run()
    assert page.session_state["values"] == {
        "heads": 8,
        "on": True,
        "betas": [0.8, 0.9],
        "window": 16,
    }


def test_a_value_that_a_browser_should_not_have_sent_is_refused_on_the_server() -> None:
    page = AppTest.from_function(form).run()
    page.number_input(key="form.rate").set_value(-3.0).run()
    assert "rate" not in page.session_state["values"]
    assert [error.value for error in page.error] == ["Rate must be more than 0"]


def test_a_wrong_value_in_the_file_can_be_put_right() -> None:
    page = AppTest.from_function(form)
    page.session_state["values"] = {"heads": "many"}
    page.run()
    assert page.error[0].value == "Heads must be a whole number"
    page.text_input(key="form.heads:raw").set_value("2").run()
    assert page.session_state["values"]["heads"] == 2
    assert not page.error


class Odd(BaseModel):
    scales: list[float] | None = Field(None, description="A factor each.")
    note: str | None = Field(None, description="Words.")
    rate: float = Field(0.5, description="A rate.")


@pytest.mark.parametrize(
    ("name", "before", "reported", "heard"),
    [
        ("scales", None, "", []),
        ("scales", [1.0, 2.0], "1, 2", []),
        ("scales", [1.0, 2.0], "", [("scales", None)]),
        ("scales", None, "3", [("scales", [3])]),
        ("note", None, "", []),
        ("note", "a", "", [("note", None)]),
        ("rate", 0.5, 0.5, []),
        ("rate", 0.5, 0.25, [("rate", 0.25)]),
    ],
)
def test_what_a_browser_reports_of_a_field_that_nobody_touched_is_no_change(
    monkeypatch: pytest.MonkeyPatch, name: str, before: object, reported: object, heard: object
) -> None:
    """A rerun that is cut short makes a browser report fields of a form that is gone, as they stood."""
    (field,) = [one for one in fields(Odd.model_json_schema()) if one.name == name]
    monkeypatch.setattr(forms.st, "session_state", {"key": reported})
    said: list[tuple[str, object]] = []
    forms._changed(field, "key", lambda *one: said.append(one), before, "refused")
    assert said == heard
