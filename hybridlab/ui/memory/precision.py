"""Number formats of single components: what each loses in another one, what it saves, and which are kept in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from hybridlab.runs.record import Run
from hybridlab.runs.slots import accelerators
from hybridlab.ui.memory.choice import PURPOSES, Choice, choice_section
from hybridlab.ui.memory.kind import MIX, MIXED_FILE
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import show_table
from hybridlab.units import format_bytes

_BY_THE_STEP = "by the step"
_FORMATS = ("bfloat16", "float16", "float32")
_TOLD = {
    _BY_THE_STEP: "bfloat16; float32 if the step is in 16 bits",
    "float16": "float16 (passes forward only)",
}
_TOLERANCES = {0.01: "1 %", 0.05: "5 %", 0.2: "20 %"}
_TOLERANCE = 0.05


def precision_section(work: Work) -> None:
    """Let the user measure formats of components, and show what was found last for this design, batch and purpose."""
    choice_section(PRECISION, work, _details)


def _options(work: Work, key: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Let the user choose the format and the tolerance; what is usual for the step is not noted."""
    formats, usual = formats_for(work)
    format = st.selectbox(
        "Format to try",
        formats,
        index=_place(formats, given.get("format"), usual),
        format_func=lambda name: _TOLD.get(name, name),
        key=f"{key}.format",
        width=280,
        help="What components may compute in, other than the format of the whole step. Weights stay in float32, and "
        "so does what goes between components.",
    )
    tolerance = st.selectbox(
        "Gradients may differ by",
        list(_TOLERANCES),
        index=_place(list(_TOLERANCES), given.get("tolerance"), _TOLERANCE),
        format_func=_TOLERANCES.__getitem__,
        key=f"{key}.tolerance",
        width=200,
        help="Of their norm, against float32; of that of the output for passes forward. The loss may by 1 %.",
    )
    noted = format != usual or format == given.get("format")
    asked: dict[str, Any] = {"format": format} if noted and format != _BY_THE_STEP else {}
    return asked if tolerance == _TOLERANCE else {**asked, "tolerance": tolerance}


def formats_for(work: Work) -> tuple[list[str], str]:
    """Return the formats that components of this step can be tried in, and the one that is tried by itself."""
    settings = {**work.task["default_training"], **work.settings}
    own, device = str(settings.get("precision") or "auto"), str(settings.get("device") or "auto")
    if own == "auto":
        if device != "cpu" and accelerators():  # whether it has bfloat16 is known to the run alone
            return [_BY_THE_STEP, *_FORMATS], _BY_THE_STEP
        own = "float32"
    return [name for name in _FORMATS if name != own], "bfloat16" if own == "float32" else "float32"


def _place(options: Sequence[Any], given: Any, usual: Any) -> int:
    return options.index(given if given in options else usual)


def _told(found: Mapping[str, Any]) -> str:
    """Say what the step with these formats takes, keeps and loses."""
    ratio, trains = found["ratio"], found["precisions"]["training"]
    time = (
        f"{ratio['value']:.3f} times the time that it takes as it is (between {ratio['low']:.3f} and "
        f"{ratio['high']:.3f}, in turns that had no part in choosing)"
    )
    kept = ""
    if trains:
        before, after = found["plain_saved_bytes"], found["saved_bytes"]
        kept = f" and keeps {format_bytes(after)} for backward instead of {format_bytes(before)}"
    return (
        f"{time}{kept}. Against float32 the loss differs by {found['loss_error']:.1e}, "
        f"{'gradients' if trains else 'the output'} by {found['error']:.1e}."
    )


PRECISION = Choice(
    kind=MIX,
    file=MIXED_FILE,
    name="precisions",
    title="Precision by component",
    icon=":material/decimal_increase:",
    caption="Components can compute in 16-bit formats one by one: less to move and to keep, at the price of rounding. "
    "Each is run in the other format on a batch, alone and in the whole network, and held against float32: its output, "
    "the loss, all gradients. What overflows or is not within the tolerance is left out. The largest sets within it "
    "are timed in turn with the network as it is, and kept only where they are faster, or keep less. Some CPUs are "
    "slower in 16 bits: then nothing is kept.",
    button="Measure precision",
    done="mixed",
    after="mixed",
    plain="as it is",
    nothing="All stays as it is",
    doing=(
        "Comparing each component with float32",
        "Timing each component alone",
        "Timing sets of them in turn with the network as it is",
        "Counting operators and bytes",
    ),
    verb="precision",
    question="What is to be better",
    purposes={**PURPOSES, "memory": "memory of training steps"},
    told=_told,
    learnt="What is learnt differs by the rounding of these formats.",
    options=_options,
)


def _details(work: Work, run: Run, found: Mapping[str, Any]) -> None:
    """Show what each component loses and saves in the other format, and what came of it."""
    show_table(
        work.opened,
        f"precision {run.id}",
        precision_table(found),
        columns={
            "output error": st.column_config.NumberColumn("error of its own output", format="%.1e"),
            "loss error": st.column_config.NumberColumn("error of the loss", format="%.1e"),
            "error": st.column_config.NumberColumn(
                "error of all gradients"
                if found["precisions"]["training"]
                else "error of the network's output",
                format="%.1e",
            ),
            "time": st.column_config.NumberColumn("time / as it is", format="%.3f"),
            "low": st.column_config.NumberColumn("from", format="%.3f"),
            "high": st.column_config.NumberColumn("to", format="%.3f"),
        },
        title="Each component in another number format, measured",
    )


def precision_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each component: its errors in the other format, its time, what is kept of it, the verdict."""
    rows = found["judged"]
    ratios = [one["ratio"] or {} for one in rows]
    table = pd.DataFrame(
        {
            "component": [one["component"] for one in rows],
            "format": [one["format"] for one in rows],
            "output error": _numbers(rows, "output_error"),
            "loss error": _numbers(rows, "loss_error"),
            "error": _numbers(rows, "error"),
            "time": _numbers(ratios, "value"),
            "low": _numbers(ratios, "low"),
            "high": _numbers(ratios, "high"),
        }
    )
    if found["precisions"]["training"]:
        table["kept for backward"] = [_bytes(one["plain_saved_bytes"]) for one in rows]
        table["kept in the format"] = [_bytes(one["saved_bytes"]) for one in rows]
    table["verdict"] = [f"kept: {one['why']}" if one["kept"] else one["why"] for one in rows]
    return table


def _numbers(rows: Any, name: str) -> pd.Series[float]:
    return pd.Series([one.get(name) for one in rows], dtype=float)


def _bytes(count: int | None) -> str:
    return "" if count is None else format_bytes(count)
