"""Weights that are optimised in another way than all others: a table of groups, and groups that are known to help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from hybridlab.training.group_spec import (
    DEFAULTS,
    OPTIMISERS,
    SUGGESTIONS,
    GroupSpec,
    Suggestion,
)
from hybridlab.ui import shell, state
from hybridlab.ui.train.rows import Rows, begun, columns_shown, took, written
from hybridlab.validation import problems_from

_COLUMNS = (
    "name",
    "match",
    "use",
    "kind",
    "weights",
    "optimiser",
    "rate",
    "learning_rate",
    "schedule",
    "warmup_steps",
    "weight_decay",
    "clip_norm",
    "frozen",
    "from",
    "to",
    "beta1",
    "beta2",
    "momentum",
)
_PAIRS = {"depth": ("from", "to"), "betas": ("beta1", "beta2")}
"""Settings of two numbers, which have a column each."""
_RARE = (*_PAIRS["depth"], *_PAIRS["betas"], "momentum")
_VIEWS = {
    "Which weights and how fast": (
        *("name", "match", "use", "kind", "weights"),
        *("rate", "learning_rate"),
    ),
    "Optimiser": (
        *("name", "optimiser", "schedule", "warmup_steps"),
        *("weight_decay", "clip_norm", "frozen"),
    ),
    "Depth and averages": ("name", "from", "to", "beta1", "beta2", "momentum"),
}
"""Columns that are shown at once."""
_WHOLE = ("warmup_steps",)
_KINDS = ("input", "token_mixer", "channel_mixer", "norm", "merge", "router", "head")
_VERSION = "train.groups.version"


def groups(changed: Mapping[str, Any], change: Callable[[str, Any], None]) -> None:
    """Show the groups of the settings as a table that can be changed, with suggestions; ``change`` takes new ones."""
    now = [dict(group) for group in changed.get("groups", ())]
    label = f"Component rates ({len(now)})" if now else "Component rates"
    with st.expander(label, icon=":material/speed:", key="train.groups"):
        st.caption(
            "Rows take weights from top to bottom: the first that fits has them, all others go by the settings above. "
            "Paths and names may hold * and several may stand with | between them."
        )
        _defaults()
        _suggestions(now, change)
        used = {part for group in now for name in group for part in _PAIRS.get(name, (name,))}
        shown = columns_shown(_VIEWS, used, "train.groups.columns")
        table = f"train.groups.table.{state.keep(_VERSION, 0)}.{shown[1]}"
        key, rows = begun(table, now)
        edited = st.data_editor(
            _frame(rows),
            key=key,
            num_rows="dynamic",
            placeholder="–",
            hide_index=True,
            column_order=shown,
            column_config=_configured(),
            alt="Table of groups of weights",
        )
        taken = _taken(edited)
        if taken != now:
            change("groups", taken)
            took(table, taken)
            st.rerun()  # what stands above the table tells of its rows
        for place, group in enumerate(taken):
            try:
                GroupSpec.model_validate(group)
            except ValidationError as error:
                shell.problems(problems_from(error, f"groups[{place}]"))


def _defaults() -> None:
    """Say how weights are optimised that no group takes, and why."""
    with st.popover("What happens without groups", icon=":material/help:"):
        for each in DEFAULTS:
            source = f" [Paper]({each.source})" if each.source else ""
            st.markdown(f"**{each.what}:** {each.how}. {each.reason}{source}")


def _suggestions(now: list[dict[str, Any]], change: Callable[[str, Any], None]) -> None:
    """Offer groups that are known to help, each with its reason."""
    there = {group.get("name") for group in now}
    with st.container(horizontal=True):
        for offer in SUGGESTIONS:
            source = f" Source: {offer.source}" if offer.source else ""
            st.button(
                offer.title,
                key=f"train.groups.{offer.group.name}",
                icon=":material/add:",
                disabled=offer.group.name in there,
                help=offer.reason + source,
                on_click=_add,
                args=(now, offer, change),
            )


def _add(now: list[dict[str, Any]], offer: Suggestion, change: Callable[[str, Any], None]) -> None:
    """Put a suggestion at the end; the table starts anew from what there is then."""
    change("groups", [*now, offer.group.model_dump(exclude_defaults=True)])
    show_anew()


def show_anew() -> None:
    """Let the table start anew from the settings: they were changed elsewhere than in it."""
    state.put(_VERSION, state.keep(_VERSION, 0) + 1)


def take_rate(
    now: list[dict[str, Any]], name: str, rate: float, change: Callable[[str, Any], None]
) -> bool:
    """Give the group of a name a learning rate of its own; say whether there is such a group."""
    found = [
        {**{k: v for k, v in group.items() if k != "rate"}, "learning_rate": rate}
        if group.get("name") == name
        else group
        for group in now
    ]
    change("groups", found)
    state.put(_VERSION, state.keep(_VERSION, 0) + 1)
    return any(group.get("name") == name for group in now)


def _defaults_by_column() -> dict[str, Any]:
    """Return what an empty cell of each column stands for; None where that is what holds for all weights."""
    known = {name: field.default for name, field in GroupSpec.model_fields.items()}
    for name, columns in _PAIRS.items():
        known |= dict(zip(columns, known.pop(name) or (None, None), strict=True))
    return known


def _frame(now: Rows) -> pd.DataFrame:
    defaults = _defaults_by_column()
    rows = [{**defaults, **_apart(group)} for group in now]
    columns = {name: [row.get(name) for row in rows] for name in _COLUMNS}
    frame = pd.DataFrame(columns)
    for name in ("rate", "learning_rate", "warmup_steps", "weight_decay", "clip_norm", *_RARE):
        frame[name] = pd.to_numeric(frame[name]).astype("float64")
    for name in ("name", "match", "use", "kind", "weights", "optimiser", "schedule"):
        frame[name] = frame[name].astype("object")
    frame["frozen"] = frame["frozen"].astype("bool")
    return frame


def _apart(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group with a column for each number of a pair."""
    found = dict(group)
    for name, columns in _PAIRS.items():
        found |= dict(zip(columns, found.pop(name, None) or (), strict=False))
    return found


def _paired(given: dict[str, Any]) -> dict[str, Any]:
    """Return a row with pairs as settings have them; of betas that are half given, the other is as is usual."""
    lion = given.get("optimiser") == "lion"
    usual = {"depth": (0.0, 1.0), "betas": (0.9, 0.99 if lion else 0.95)}
    found = dict(given)
    for name, columns in _PAIRS.items():
        pair = [found.pop(column, None) for column in columns]
        made = [
            first if first is not None else last
            for first, last in zip(pair, usual[name], strict=True)
        ]
        if (name == "betas" and pair != [None, None]) or (name == "depth" and made != [0.0, 1.0]):
            found[name] = made
    return found


def _taken(edited: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as settings, only what differs from the defaults."""
    defaults = _defaults_by_column()
    found = []
    for row in edited.to_dict("records"):
        given = written(row, _WHOLE)
        if given.get("name"):
            found.append(
                {k: v for k, v in _paired(given).items() if k in _PAIRS or v != defaults.get(k)}
            )
    return found


def _configured() -> dict[str, Any]:
    config, fields = st.column_config, GroupSpec.model_fields

    def told(name: str) -> str:
        return str(fields[name].description)

    return {
        "name": config.TextColumn("Name", width=95, required=True, max_chars=40, help=told("name")),
        "match": config.TextColumn("Components", width=115, default="*", help=told("match")),
        "use": config.TextColumn("Of this name", width=118, help=told("use")),
        "kind": config.SelectboxColumn(
            "Of this family", width=122, options=list(_KINDS), help=told("kind")
        ),
        "weights": config.TextColumn("Weights", width=90, default="*", help=told("weights")),
        "optimiser": config.SelectboxColumn(
            "Optimiser", options=list(OPTIMISERS), default="adamw", help=told("optimiser")
        ),
        "rate": config.NumberColumn(
            "Rate ×", width=65, default=1.0, min_value=0.0, help=told("rate")
        ),
        "learning_rate": config.NumberColumn(
            "Rate", width=75, min_value=0.0, format="%.2e", help=told("learning_rate")
        ),
        "schedule": config.SelectboxColumn(
            "Schedule", options=["cosine", "constant"], help=told("schedule")
        ),
        "warmup_steps": config.NumberColumn(
            "Warm-up", min_value=0, step=1, help=told("warmup_steps")
        ),
        "weight_decay": config.NumberColumn("Decay", min_value=0.0, help=told("weight_decay")),
        "clip_norm": config.NumberColumn("Clip", min_value=0.0, help=told("clip_norm")),
        "frozen": config.CheckboxColumn("Frozen", width=65, default=False, help=told("frozen")),
        "from": config.NumberColumn(
            "From depth", default=0.0, min_value=0.0, max_value=1.0, help=told("depth")
        ),
        "to": config.NumberColumn(
            "To depth", default=1.0, min_value=0.0, max_value=1.0, help=told("depth")
        ),
        "beta1": config.NumberColumn("β₁", min_value=0.0, max_value=1.0, help=told("betas")),
        "beta2": config.NumberColumn("β₂", min_value=0.0, max_value=1.0, help=told("betas")),
        "momentum": config.NumberColumn(
            "Momentum", default=0.95, min_value=0.0, max_value=1.0, help=told("momentum")
        ),
    }
