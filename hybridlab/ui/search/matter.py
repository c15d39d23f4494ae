"""The second step of a search: two to four objectives, and limits on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError, Problem
from hybridlab.search.landscape import JOULES, PREDICTED, TIMED, Objective
from hybridlab.search.trained_table import COSTS, METRIC
from hybridlab.ui import predictions
from hybridlab.ui.search import kept
from hybridlab.units import parse_bytes
from hybridlab.views.search_axes import title_of, written

MOST = 4


def matter(
    key: str, content: Mapping[str, Any]
) -> tuple[list[str] | None, dict[str, float], list[Problem]]:
    """Let the user choose objectives and limits; return both, and what is wrong with a limit that was written.

    The objectives of a closed form are its own: None.
    """
    known = objectives_of(content)
    names = list(known)
    given = content.get("objectives")
    told = [str(one) for one in given if str(one) in known] if isinstance(given, list) else []
    taken: list[str] | None = None
    if content.get("closed_form") is None:
        usual = [*names[:1], *(one for one in ("peak_bytes",) if one in names)]
        options = {name: _said(known[name]) for name in names}
        taken = kept.several(
            "Objectives",
            f"{key}.objectives",
            options,
            told or usual,
            max_selections=MOST,
            help="Two to four. Predicted ones are known before a trial runs; measured ones take a short training.",
        )
        if len(taken) < 2:
            st.error(
                "There is nothing to trade with one objective: choose two to four.",
                icon=":material/error:",
            )
    shown = [known[name] for name in (taken if taken is not None else names)]
    wanted = content.get("limits")
    limits, problems = _limits(key, shown, wanted if isinstance(wanted, dict) else {})
    return taken, limits, problems


def objectives_of(content: Mapping[str, Any]) -> dict[str, Objective]:
    """Return the objectives that a search file's content may have, by name."""
    if content.get("closed_form") is not None:
        found = [
            Objective("quality", "maximize", formula=True),
            Objective("peak_bytes", "minimize", "bytes", predicted=True),
        ]
    elif content.get("trained_table") is not None:
        found = [Objective(METRIC, "maximize")]
        found += [Objective(name, "minimize", unit, predicted=True) for name, unit in COSTS.items()]
    else:
        entry = predictions.task(str(content.get("task"))) or {}
        large = bool(entry.get("higher_is_better", True))
        found = [
            Objective(str(metric), "maximize" if large else "minimize")
            for metric in list(entry.get("val_metrics") or ())[:1]
        ]
        found += [*PREDICTED.values(), *TIMED.values(), JOULES]
    return {one.name: one for one in found}


def _said(objective: Objective) -> str:
    return f"{title_of(objective.name)} ({objective.source})"


def _limits(
    key: str, shown: list[Objective], told: Mapping[str, Any]
) -> tuple[dict[str, float], list[Problem]]:
    limits: dict[str, float] = {}
    problems: list[Problem] = []
    columns = st.columns(max(2, len(shown)))
    for column, objective in zip(columns, shown, strict=False):
        word = "at most" if objective.direction == "minimize" else "at least"
        unit = {"bytes": "such as 256 MiB", "ms": "ms"}.get(objective.unit, objective.unit)
        first = told.get(objective.name)
        with column:
            text = kept.text(
                f"{title_of(objective.name).capitalize()} {word}" + (f" ({unit})" if unit else ""),
                f"{key}.limit.{objective.name}",
                _begins(objective, first),
                placeholder="no limit",
                help="A design beyond a limit is never trained if that is known before, and never on the front.",
            )
            if text.strip():
                try:
                    limits[objective.name] = _value(text.strip(), objective)
                except (ValueError, HybridLabError):
                    said = f"{text.strip()!r} is not a size; write a number" + (
                        f", {unit}" if objective.unit == "bytes" else ""
                    )
                    st.error(said, icon=":material/error:")
                    problems.append(Problem(f"limits.{objective.name}", said))
    return limits, problems


def _begins(objective: Objective, told: Any) -> str:
    if told is None:
        return ""
    if isinstance(told, bool) or not isinstance(told, (int, float)):
        return str(told)
    return written(objective, float(told)) if objective.unit == "bytes" else f"{float(told):g}"


def _value(text: str, objective: Objective) -> float:
    if objective.unit == "bytes" and not text.replace(".", "", 1).isdigit():
        return float(parse_bytes(text))
    return float(text.removesuffix("ms").strip().replace(",", ""))
