"""The step as a training will run it: with the fusion and the tuning of its settings, where a plan can be made so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError, Problem, SpecError
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.saved import Choice
from hybridlab.planning.tuning.record import Tuning
from hybridlab.training.spec import make
from hybridlab.ui import shell, state
from hybridlab.ui.held import key_showing
from hybridlab.ui.memory.work import Work
from hybridlab.ui.train.measured import fingerprint_of

PLANNED: Mapping[str, type[Choice]] = {"fusion": Fusion, "tuning": Tuning}
"""Settings that change the step that is planned."""
_NEVER = {
    "precisions": "formats of single components are not planned; a training may have them beside a plan",
    "regions": "compiled regions are not planned; a training has either them or a plan",
}


@dataclass(frozen=True)
class Trained:
    """The step that is planned: ``names`` of its settings are in it, others are left out, each for a reason."""

    work: Work
    names: tuple[str, ...]
    left_out: Mapping[str, str]


def as_trained(work: Work) -> Trained:
    """Return the step with what of its settings was measured to be better and can be planned."""
    known = fingerprint_of(work.text, work.task) if set(PLANNED) & set(work.better) else None
    settings, names, left_out = dict(work.settings), [], {}
    for name, value in work.better.items():
        why = _NEVER.get(name, "")
        if kind := PLANNED.get(name):
            why = _refused(kind, {**settings, name: value}, work, known)
            if not why:
                settings[name] = value
                names.append(name)
        if why:
            left_out[name] = why
    return Trained(replace(work, settings=settings), tuple(names), left_out)


def planned_step(work: Work) -> Work:
    """Say which step is planned, and let the user plan the one as designed instead; return it."""
    found = as_trained(work)
    with_it = " and ".join(found.names)
    on = bool(found.names)
    if on and work.run is not None:
        st.caption(f"Planned and measured with the {with_it} of the training's settings.")
    elif on:
        on = state.keep("memory.trained", True)
        st.toggle(
            f"Plan the step as it will be trained: with {with_it}",
            value=on,
            key=key_showing(f"{work.key}.trained", on),
            on_change=lambda: state.put("memory.trained", not on),
            help="As the settings on the Train page have it. Off: the step as it is designed.",
        )
        st.caption(
            f"Planned with the {with_it} as set on the Train page: bytes, plans and what *Apply and measure* runs are "
            "of that step. The predicted time of the step before a plan is that of the design as it is."
            if on
            else f"Planned is the step as designed, without the {with_it} that is set on the Train page."
        )
    if found.left_out:
        said = "; ".join(f"{name} ({why})" for name, why in found.left_out.items())
        st.caption(shell.escaped(f"Left out of what the training's settings hold: {said}."))
    return found.work if on else work


def _refused(
    kind: type[Choice], settings: Mapping[str, Any], work: Work, fingerprint: str | None
) -> str:
    """Say why a step is not planned with what its settings hold; nothing where it is."""
    try:
        chosen = kind.read(settings[kind.called])
    except HybridLabError:
        return "cannot be read"
    try:
        if fingerprint is not None:
            chosen.check_design(fingerprint)
        chosen.check_training()
        if isinstance(chosen, Fusion) and chosen.across:
            raise SpecError(
                Problem("fusion", "joins maps of several components, which a plan takes apart")
            )
        make({**settings, "task": work.task["name"]}, work.task["default_training"])
    except HybridLabError as error:
        return error.problems[0].message
    return ""
