"""Widgets made from a parameter schema; they always show what the caller's own state says."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from hybridlab.ui.held import key_showing
from hybridlab.ui.schema import Field, shown

_JS_SAFE = 2**53 - 1
Change = Callable[[str, Any], None]
"""Called with a field's name and its new value (None: empty)."""


def parameter(
    field: Field, value: Any, key: str, change: Change, *, disabled: bool = False
) -> None:
    """Show one parameter with its current value; ``change`` hears of a new one that the schema allows."""
    if field.refusal(value) and not (value is None and not field.required):
        _raw(field, value, key, change)
        return
    begins = _as_shown(field, value)
    refused, key = f"{key}:refused", key_showing(key, begins)
    common: dict[str, Any] = {
        "key": key,
        "help": field.explanation,
        "on_change": _changed,
        "args": (field, key, change, value, refused),
        "disabled": disabled,
    }
    if field.kind == "boolean":
        st.toggle(field.label, value=begins, **common)
    elif field.kind == "choice":
        options = [*field.choices, None] if field.optional else list(field.choices)
        index = options.index(begins) if begins in options else 0
        st.selectbox(field.label, options, index=index, format_func=shown, **common)
    elif field.kind in ("integer", "number"):
        st.number_input(field.label, value=begins, **_limits(field, value), **common)
    else:
        st.text_input(field.label, value=begins, **common)
    if said := st.session_state.pop(refused, ""):
        st.error(said, icon=":material/error:")


def parameters(
    fields: list[Field],
    values: Mapping[str, Any],
    key: str,
    change: Change,
    *,
    columns: int = 1,
) -> None:
    """Show parameters in columns; a value that is missing stands for its default."""
    places = st.columns(columns) if columns > 1 else [contextlib.nullcontext()]
    for index, field in enumerate(fields):
        with places[index % columns]:
            parameter(field, values.get(field.name, field.default), f"{key}.{field.name}", change)


def _changed(field: Field, key: str, change: Change, shown_before: Any, refused: str) -> None:
    """Take a widget's new value if the schema allows it, else say why not.

    Where a rerun was cut short, a browser reports a widget that nobody touched: its value is no change.
    """
    value = st.session_state.get(key)
    begins = _as_shown(field, shown_before)
    if value == begins and type(value) is type(begins):
        return
    if field.kind in ("text", "list") and value == "" and field.optional:
        value = None
    elif field.kind == "list" and isinstance(value, str):
        value = _list(value)
    elif field.kind == "number" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if value == shown_before and type(value) is type(shown_before):
        return
    if refusal := field.refusal(value):
        st.session_state[refused] = refusal
    else:
        change(field.name, value)


def _raw(field: Field, value: Any, key: str, change: Change) -> None:
    """Show a value that the schema refuses, as text, so that it can be put right."""
    begins = "" if value is None else str(value)
    raw = key_showing(f"{key}:raw", begins)

    def changed() -> None:
        text = str(st.session_state[raw]).strip()
        try:
            given = json.loads(text) if text else None
        except ValueError:
            given = text
        if not field.refusal(given):
            change(field.name, given)

    st.text_input(field.label, begins, key=raw, help=field.explanation, on_change=changed)
    st.error(field.refusal(value), icon=":material/error:")


def _as_shown(field: Field, value: Any) -> Any:
    if field.kind == "list":
        return shown(value) if value is not None else ""
    if field.kind == "text":
        return "" if value is None else str(value)
    if field.kind == "boolean":
        return bool(value)
    if field.kind == "number" and value is not None:
        return float(value)
    return value


def _limits(field: Field, value: Any) -> dict[str, Any]:
    """Return limits and steps for a number; Streamlit holds whole numbers only as far as browsers do."""
    low, high = field.minimum, field.maximum
    empty = {"placeholder": "none"} if field.optional else {}
    if field.kind == "integer":
        low = None if low is None else max(int(low), -_JS_SAFE)
        high = None if high is None else min(int(high), _JS_SAFE)
        return {"min_value": low, "max_value": high, "step": 1, **empty}
    size = abs(value) if value else 0.01
    step = 10.0 ** math.floor(math.log10(size))
    return {
        "min_value": None if low is None else float(low),
        "max_value": None if high is None else float(high),
        "step": min(step, 1.0),
        "format": "%.6g",
        **empty,
    }


def _list(text: str) -> Any:
    """Read ``0.9, 0.95`` as a list; text that is no list of JSON values stays text and is refused."""
    try:
        return json.loads(f"[{text.strip().strip('[]()')}]")
    except ValueError:
        return text
