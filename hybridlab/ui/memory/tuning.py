"""Ways of components: chunks of scans and layouts of convolutions, as they are fastest on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from hybridlab.runs.record import Run
from hybridlab.ui.memory.choice import Choice, choice_section
from hybridlab.ui.memory.kind import TUNE, TUNED_FILE
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import show_table
from hybridlab.units import format_bytes, format_seconds

TUNING = Choice(
    kind=TUNE,
    file=TUNED_FILE,
    name="tuning",
    title="Chunks and layouts",
    icon=":material/tune:",
    caption="Some components compute the same in several ways. Scans take many positions in one matrix product: small "
    "chunks stay in small caches, large ones need fewer calls. Convolutions run on the sequence as it lies, by tokens, "
    "or with the positions of each feature side by side, by channels, and components hand it over either way, as is "
    "cheapest over the whole graph. Each component is timed alone in each way and as designed, in turn; what is faster "
    "then runs in the whole step, and is kept only where that is faster too. What is found of components is kept for "
    "this machine.",
    button="Measure chunks and layouts",
    done="tuned",
    after="tuned",
    plain="as designed",
    nothing="All stays as designed",
    doing=(
        "Timing each component alone",
        "Timing the whole with what was faster",
        "Counting operators and bytes",
    ),
    verb="tune",
)


def tuning_section(work: Work) -> None:
    """Let the user measure ways of components, and show what was found last for this design, batch and purpose."""
    choice_section(TUNING, work, _details)


def _details(work: Work, run: Run, found: Mapping[str, Any]) -> None:
    """Show each way that was tried and what came of it, and what is copied at borders."""
    table = tuning_table(found)
    if not table.empty:
        show_table(
            work.opened,
            f"tuning {run.id}",
            table,
            columns={
                "time": st.column_config.NumberColumn("time / as designed", format="%.3f"),
                "low": st.column_config.NumberColumn("from", format="%.3f"),
                "high": st.column_config.NumberColumn("to", format="%.3f"),
                "difference": st.column_config.NumberColumn("difference", format="%.1e"),
            },
            title="Each component alone in other ways, measured",
        )
    over = hand_over_table(found)
    if not over.empty:
        show_table(
            work.opened,
            f"hand-overs {run.id}",
            over,
            title="Each hand-over either way: the sum over the graph of what has a choice, measured",
        )
    borders = border_table(found)
    if not borders.empty:
        show_table(
            work.opened,
            f"borders {run.id}",
            borders,
            title="What is only copied or cast from one component to another, and within one",
        )


def tuning_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each way that was tried of each component, and for what was known before."""
    rows = [
        {
            "component": one["component"],
            "places": len(one["places"]),
            "what": one["knob"],
            "designed": str(one["designed"]),
            "tried": str(tried["value"]),
            "time": (tried["ratio"] or {}).get("value"),
            "low": (tried["ratio"] or {}).get("low"),
            "high": (tried["ratio"] or {}).get("high"),
            "difference": tried["error"],
            "verdict": _verdict(one, tried),
        }
        for one in found["judged"]
        for tried in one["tried"] or [_before(one)]
    ]
    made = pd.DataFrame(rows)
    numbers = [name for name in ("time", "low", "high", "difference") if name in made]
    return made.astype(dict.fromkeys(numbers, float))


def hand_over_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each hand-over: who gives and reads it, what the graph takes with it either way."""
    return pd.DataFrame(
        [
            {
                "from": one["writer"],
                "to": ", ".join(one["readers"]),
                "by tokens": format_seconds(one["tokens_ms"] / 1e3),
                "by channels": "changes bits"
                if one["channels_ms"] is None
                else format_seconds(one["channels_ms"] / 1e3),
                "cheapest": f"by {one['layout']}",
            }
            for one in found.get("hand_overs") or []
        ]
    )


def border_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each border at which numbers are only moved: bytes and milliseconds, as designed and tuned."""
    sides = [("as designed", found.get("plain_borders") or [])]
    if found["applied"]:
        sides.append(("tuned", found.get("tuned_borders") or []))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for side, borders in sides:
        for one in borders:
            inside = f", inside {one['inside']}" if one.get("inside") else ""
            key = (one["writer"] or "the step", (one["reader"] or "the step") + inside)
            row = rows.setdefault(key, {"from": key[0], "to": key[1]})
            row[f"copied, {side}"] = format_bytes(one["copied_bytes"])
            row[f"of it cast, {side}"] = format_bytes(one["cast_bytes"])
            row[f"time, {side}"] = format_seconds(one["ms"] / 1e3)
    return pd.DataFrame(list(rows.values())).fillna("none")


def _before(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was known of a component as a way that was tried."""
    return {"value": one["value"], "ratio": one["ratio"], "error": None, "why": one["why"]}


def _verdict(one: Mapping[str, Any], tried: Mapping[str, Any]) -> str:
    if tried["why"]:
        return str(tried["why"])
    if tried["value"] != one["value"]:
        if tried["ratio"]["high"] >= 1:
            return "is not measured faster"
        best = min(other["ratio"]["value"] for other in one["tried"] if other["ratio"])
        again = not one["kept"] and tried["ratio"]["value"] == best
        return "was not faster once more" if again else "is not the fastest"
    ratio = one["ratio"]
    return f"fastest: {ratio['value']:.3f} once more" if ratio else "fastest"
