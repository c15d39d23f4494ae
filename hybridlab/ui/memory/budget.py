"""The budget of a plan: a slider in MiB and a field for any amount, both of one value that the session keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from hybridlab.errors import HybridLabError, Problem
from hybridlab.planning.record import Budget, Plan
from hybridlab.planning.trade_off import TradeOff
from hybridlab.ui import shell, state
from hybridlab.ui.held import key_showing
from hybridlab.ui.memory.work import Work
from hybridlab.units import format_bytes

MIB = 2**20
_START = "100%"


def budget(work: Work, found: TradeOff) -> tuple[Budget, Plan]:
    """Show both ways to set the budget; return it with its plan, the nearest that can be met where it cannot."""
    asked = Budget.parse(kept(work))
    plain_bytes = found.plain.predicted.peak_bytes
    told: Sequence[Problem] | None
    try:
        plan, told = found.best(asked), None
    except HybridLabError as error:
        told = error.problems
        asked = Budget(peak_bytes=found.least_bytes)
        plan = found.best(asked)
    if work.plan is not None and kept(work) == _first(work):
        plan = work.plan  # times may be known better since, which may make another the fastest
    left, right = st.columns([3, 1], gap="medium", vertical_alignment="bottom")
    with left:
        _slider(work, found, min(asked.bytes_of(plain_bytes), plain_bytes))
    with right:
        _typed(work)
    if told is not None:
        shell.problems(told)
        st.caption("The views show the smallest plan instead.")
    if said := state.keep(f"{work.key}.budget.refused", ()):
        shell.problems(said)
    st.caption(
        f"At least {format_bytes(found.least_bytes)}: that much is held by {shell.escaped(found.holder)}. "
        f"As it is, the step needs {format_bytes(plain_bytes)}. Both *predicted*; a click on a point of the curve "
        "takes its peak as the budget."
        + (f" Predicted times rest on {shell.escaped(found.rests_on)}." if found.rests_on else "")
    )
    return asked, plan


def kept(work: Work) -> str:
    """Return the budget that this session keeps, as text; a run's own at first."""
    return state.keep(f"{work.key}.budget", _first(work))


def _first(work: Work) -> str:
    given = work.plan.budget if work.plan is not None else None
    if given is None:
        return _START
    return str(given) if given.share is not None else f"{given.peak_bytes} B"


def take(work: Work, text: str) -> None:
    """Keep another budget, as a callback; what is none is told, and the one before stays."""
    state.put(f"{work.key}.budget.refused", ())
    try:
        Budget.parse(text)
    except HybridLabError as error:
        state.put(f"{work.key}.budget.refused", tuple(_plainly(error.problems)))
        return
    state.put(f"{work.key}.budget", text)


def step_mib(plain_bytes: int) -> float:
    """Return the slider's step in MiB: a power of ten, some hundred to a thousand steps to the plain step's peak."""
    return 10.0 ** math.floor(math.log10(plain_bytes / MIB / 200))


def _slider(work: Work, found: TradeOff, budget_bytes: int) -> None:
    plain_bytes = found.plain.predicted.peak_bytes
    step = step_mib(plain_bytes)
    digits = max(0, -round(math.log10(step)))
    low = round(math.ceil(found.least_bytes / MIB / step) * step, digits)
    high = round(math.ceil(plain_bytes / MIB / step) * step, digits)
    if low >= high:
        st.caption("No plan needs less memory than the step as it is, so there is nothing to set.")
        return
    now = min(high, max(low, round(round(budget_bytes / MIB / step) * step, digits)))
    now = high if budget_bytes >= plain_bytes else now
    key = key_showing(f"{work.key}.slider.{low}.{high}", now)

    def moved() -> None:
        # The right end stands for the step as it is, to the byte.
        value = float(st.session_state[key])
        take(work, _START if value >= high else f"{math.ceil(value * MIB)} B")

    st.slider(
        "Budget: most memory of a step (MiB)",
        min_value=low,
        max_value=high,
        value=now,
        step=step,
        format=f"%.{digits}f",
        key=key,
        on_change=moved,
        help="The fastest plan within it is worked out for every budget beforehand. Arrow keys move it by one step.",
    )


def _typed(work: Work) -> None:
    text = kept(work)
    shown = text
    if text.endswith(" B"):
        shown = f"{int(text[:-2]) / MIB:.6g} MiB"
    key = key_showing(f"{work.key}.typed", shown)
    st.text_input(
        "or type it",
        shown,
        key=key,
        on_change=lambda: take(work, str(st.session_state[key]).strip()),
        help="Bytes with a unit, such as 40 MiB, or a share of the step's peak as it is, such as 50%.",
    )


def _plainly(problems: Sequence[Problem]) -> list[Problem]:
    return [Problem("", f"the budget {p.message}", p.expected, p.got, p.fix) for p in problems]
