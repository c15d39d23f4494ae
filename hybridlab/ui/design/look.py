"""All that the Design page knows about the current text: structure, problems, shapes and predicted cost."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from hybridlab.architecture.complete import complete
from hybridlab.architecture.document import EMPTY
from hybridlab.architecture.fixes.fix import Fix
from hybridlab.architecture.fixes.offer import fixes
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem
from hybridlab.trace.hints import hints
from hybridlab.ui import predictions, state
from hybridlab.ui.again import page_again
from hybridlab.ui.predictions import Shapes

_PATIENCE_S = 0.25
"""How long a rerun waits for answers before it draws without them; waiting costs the server nothing."""
_CANVAS_PATIENCE_S = 0.5
"""The same beside the canvas, which has drawn the edit itself: to draw the page twice would cost twice."""


@dataclass(frozen=True)
class Look:
    """What is known of a text right now; ``pending`` names what is still being worked out."""

    architecture: Architecture | None
    completed: Architecture | None = None
    """The architecture with the task's input and head, where it has none of its own."""
    problems: tuple[Problem, ...] = ()
    edges: Mapping[str, str] = field(default_factory=dict)
    prediction: Mapping[str, Any] | None = None
    """The predicted cost of this text, or of the one before while this one is being worked out."""
    pending: str = ""
    input: str = ""
    """What enters, such as ``series (B, L, 1) float32``; empty while unknown."""
    fixes: Mapping[Problem, tuple[Fix, ...]] = field(default_factory=dict)
    """The one-click fixes of problems and hints."""
    hints: tuple[Problem, ...] = ()
    """What a valid design might do better, from its predicted cost."""

    @property
    def empty(self) -> bool:
        """Whether all that is wrong is that nothing has been added yet."""
        return [problem.message for problem in self.problems] == [EMPTY]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep the architecture from being built."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def supplied(self) -> frozenset[str]:
        """The ids of nodes that the task brings."""
        if self.architecture is None or self.completed is None:
            return frozenset()
        own = {node.id for node in self.architecture.nodes}
        return frozenset(node.id for node in self.completed.nodes if node.id not in own)


def look(design: state.Design, shapes: Shapes, *, canvas: bool = False) -> Look:
    """Gather what is known, asking the warm processes for the rest without waiting for them for long.

    ``canvas`` says that the canvas is on the page.
    """
    patience_s = _CANVAS_PATIENCE_S if canvas else _PATIENCE_S
    known = look_at(design.text, shapes, state.session_name(), patience_s)
    if known.pending:
        return dataclasses.replace(known, prediction=_last())
    if known.prediction is not None:
        state.put("last_prediction", known.prediction)
    return known


def look_at(text: str, shapes: Shapes, owner: str, patience_s: float) -> Look:
    """Gather what is known of a text within ``patience_s``; needs no session. ``owner`` names whose question it is."""
    architecture, problems = state.parsed(text)
    if architecture is None:
        return Look(None, problems=problems, fixes=text_fixes(text))
    known = Look(architecture, _completed(architecture, shapes))
    until = time.monotonic() + patience_s
    predictions.check(text, shapes, owner)
    predictions.predict(text, shapes, owner)  # both are worked on at the same time
    checked = predictions.check(text, shapes, owner, patience_s)
    if checked is None:
        return dataclasses.replace(known, pending="check")
    if checked.problems:
        return dataclasses.replace(known, problems=checked.problems)
    known = dataclasses.replace(
        known,
        problems=tuple(predictions.problems_of(checked.value)),
        edges=checked.value["edges"],
        input=checked.value["input"],
        fixes=predictions.fixes_of(checked.value),
    )
    if known.errors:
        return known
    predicted = predictions.predict(text, shapes, owner, max(0.0, until - time.monotonic()))
    if predicted is None:
        return dataclasses.replace(known, pending="predict")
    if predicted.problems:
        return dataclasses.replace(known, problems=(*known.problems, *predicted.problems))
    hinted = hints(architecture, predicted.value, predictions.palette())
    return dataclasses.replace(
        known,
        prediction=predicted.value,
        hints=tuple(hinted),
        fixes={**known.fixes, **hinted},
    )


@functools.lru_cache(maxsize=32)
def text_fixes(text: str) -> Mapping[Problem, tuple[Fix, ...]]:
    """Return the fixes of a text that describes no architecture yet."""
    problems = state.parsed(text)[1]
    return dict(zip(problems, fixes(text, problems, predictions.palette()), strict=True))


def _completed(architecture: Architecture, shapes: Shapes) -> Architecture:
    task = predictions.task(shapes.task or "")
    if task is None:
        return architecture
    kinds = {entry["name"]: str(entry["kind"]) for entry in predictions.components()}
    return complete(architecture, task["input_node"], task["head_node"], kinds.get)


def _last() -> Mapping[str, Any] | None:
    return state.keep("last_prediction", None)


def wait_for(known: Look) -> None:
    """Draw the page again as soon as the open question is answered; nothing where none is open."""
    if known.pending:
        _wait(known.pending)


@st.fragment(run_every=0.5)
def _wait(pending: str) -> None:
    current = state.design()
    if current is None:
        return
    ask = predictions.check if pending == "check" else predictions.predict
    if ask(current.text, state.shapes(), state.session_name()) is not None:
        page_again()
    st.caption(":material/hourglass_top: Working out shapes and cost …")
