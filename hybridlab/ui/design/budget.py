"""The budget bar: predicted peak memory of a training step against the memory of a device that the user chooses."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from hybridlab.ui import predictions, state
from hybridlab.ui.held import key_showing
from hybridlab.units import format_bytes, parse_bytes
from hybridlab.views.style import ERROR_COLOUR, WARNING_COLOUR

SIZES = ("8 GiB", "16 GiB", "24 GiB", "80 GiB")
"""Memories of common accelerators, beside this machine's devices; any other size can be typed."""
TIGHT = 0.9
"""From this share on a step fits, but the allocator's own blocks and other programs may not leave room for it."""
_KEPT, _SAID = "budget", "budget_said"
_FITS = "#3f5bd8"
_CHOICE_PX = 200


@dataclass(frozen=True)
class BudgetInfo:
    """How much of a memory a training step needs: ``share`` 1.0 is all of it; ``words`` says it for people."""

    share: float
    words: str
    verdict: str

    @property
    def over(self) -> bool:
        """Whether the step does not fit."""
        return self.share > 1


def budget_info(peak_bytes: float, memory_bytes: float) -> BudgetInfo:
    """Return what a predicted peak means for a memory, both in bytes."""
    share = peak_bytes / memory_bytes
    part = (
        f"{share:.1f} times as much as there is"
        if share >= 2
        else "under 1 %"
        if share < 0.01
        else f"{share:.0%}".replace("%", " %")
    )
    words = f"{format_bytes(peak_bytes)} of {format_bytes(memory_bytes)}, {part}"
    if share > 1:
        verdict = "does not fit: lower the batch or the width"
    elif share > TIGHT:
        verdict = "fits barely: leave some room for the allocator and other programs"
    else:
        verdict = "fits"
    return BudgetInfo(share, words, verdict)


def budget_bar(prediction: Mapping[str, Any] | None) -> None:
    """Show the bar and the choice of a device; a size may be typed, and the session remembers it."""
    devices = {str(item["name"]): item for item in predictions.devices() if item["memory_bytes"]}
    chosen = state.keep(_KEPT, next(iter(devices), SIZES[0]))
    _choice(chosen, devices)
    memory = _memory(chosen, devices)
    if prediction is None or memory is None:
        st.caption("The memory of a step appears once costs are known.")
    else:
        st.html(_bar(budget_info(float(prediction["peak_bytes"]), memory)))
    if said := st.session_state.pop(_SAID, ""):
        st.error(said, icon=":material/error:")


def _choice(chosen: str, devices: Mapping[str, Mapping[str, Any]]) -> None:
    options = list(dict.fromkeys([*devices, *SIZES, chosen]))
    key = key_showing("budget.device", chosen)

    def changed() -> None:
        wanted = str(st.session_state[key] or "").strip()
        if wanted in devices or _size(wanted) is not None:
            state.put(_KEPT, wanted)
        elif wanted:
            st.session_state[_SAID] = "A budget is a size in bytes, such as 40 GiB or 512 MiB."

    st.selectbox(
        "Memory to fit into",
        options,
        index=options.index(chosen),
        key=key,
        label_visibility="collapsed",
        accept_new_options=True,
        format_func=lambda name: _title(name, devices),
        help="A device of this machine or a size; type another one, such as 40 GiB.",
        on_change=changed,
        width=_CHOICE_PX,
    )


def _title(name: str, devices: Mapping[str, Mapping[str, Any]]) -> str:
    if name not in devices:
        return f"fit into {name}"
    return f"{name}: {format_bytes(devices[name]['memory_bytes'])}"


def _memory(chosen: str, devices: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the memory that was chosen, in bytes; a device that has gone has none."""
    return float(devices[chosen]["memory_bytes"]) if chosen in devices else _size(chosen)


def _size(text: str) -> float | None:
    try:
        size = parse_bytes(text)
    except (ValueError, OverflowError):
        return None
    return float(size) if size > 0 else None


def _bar(info: BudgetInfo) -> str:
    """Draw the bar, hatched as all that is predicted: as wide as the share, red where the step does not fit."""
    width = min(100.0, max(0.4, 100 * info.share))
    colour = ERROR_COLOUR if info.over else WARNING_COLOUR if info.share > TIGHT else _FITS
    fill = f"repeating-linear-gradient(135deg,{colour} 0 5px,{colour}a0 5px 9px)"
    said = html.escape(f"Peak, predicted: {info.words}, {info.verdict}.")
    weight = f"color:{ERROR_COLOUR};font-weight:600" if info.over else "opacity:.85"
    return (
        f'<div role="meter" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{width:.0f}" '
        f'aria-label="{said}" data-over="{str(info.over).lower()}">'
        '<div style="height:8px;border-radius:4px;overflow:hidden;background:rgba(128,128,128,.25)">'
        f'<div style="height:100%;width:{width:.1f}%;background:{fill}"></div></div>'
        f'<div style="font-size:.8rem;margin-top:3px;{weight}">{said}</div></div>'
    )
