"""A space of architectures on a task: prices are predicted on fake tensors, quality is that of a short training."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import HybridLabError, Problem, SpecError
from hybridlab.hardware.devices import choose
from hybridlab.planning.fusion.apply import fuse
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.recompute import apply
from hybridlab.planning.record import Plan
from hybridlab.search.decided import Decided
from hybridlab.search.decisions import FUSION, PLAN
from hybridlab.search.goals import objectives_of
from hybridlab.search.landscape import JOULES, TIMED, Array, Outcome, designs_around
from hybridlab.search.marked import Marked
from hybridlab.search.prices import prices
from hybridlab.search.space import Codes, Design, Space
from hybridlab.search.spec import SearchSpec
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train
from hybridlab.training.spec import make

_NEAR = 64
"""Designs around one that cannot be built among which another is looked for."""
_POOL_DECIDED = 16


class TrainedLandscape:
    """Designs of an architecture, priced for the batch that they are trained with."""

    pool = 40
    """Candidates that are priced for one trial; fewer where each is planned or traced whole too."""
    instant = False

    def __init__(self, spec: SearchSpec, architecture: Architecture) -> None:
        """Read what may vary and what matters.

        Raises:
            SpecError: nothing varies, a node, key or objective is unknown, or the training's settings are wrong.
            TaskError: the task is unknown or does not fit the architecture.
        """
        if spec.task is None:
            raise SpecError(Problem("task", "is missing", "the name of a task", fix="add it"))
        self.name = spec.name
        self.settings = {"task": spec.task, **spec.training}
        """What every design is trained with, as the file says it."""
        self.limits = dict(spec.limits)
        self.marked = Marked.read(architecture, spec.search)
        self.task, self.training = prepare({**spec.training, "task": spec.task})
        metric = self.task.metric_name(self.task.val_splits[0])
        self.objectives = objectives_of(
            spec.objectives or (metric, "peak_bytes"), self.task, self.training
        )
        self.metric = metric
        self._names = tuple(one.name for one in self.objectives)
        self._decided = Decided(self.space.choices, self.task, self.training, self._names)
        if self._decided:
            self.pool = _POOL_DECIDED
        self._prices: dict[bytes, tuple[float, ...] | None] = {}
        fit(self.marked.architecture, self.task)

    @property
    def space(self) -> Space:
        """What the file marks."""
        return self.marked.space

    @property
    def fingerprint(self) -> str:
        """The architecture, what varies, the task, the training and the objectives."""
        about = {
            "architecture": self.marked.architecture.fingerprint,
            "choices": [[choice.name, choice.values] for choice in self.space.choices],
            "training": self.training.model_dump(mode="json", exclude={"seed", "device"}),
        }
        return json.dumps(about, sort_keys=True)

    def repaired(self, codes_NP: Codes) -> Codes:
        """Return designs that can be built: what changes nothing at its first value, misfits by a neighbour."""
        rows = np.array(codes_NP, dtype=np.int64)
        for at, row in enumerate(rows):
            rows[at] = self._mended(self._plain(row))
        return rows

    def prices(self, codes_NP: Codes) -> Array:
        """Return predicted objectives of each design; NaN where a training tells, infinity where it cannot be built."""
        values = np.full((len(codes_NP), len(self.objectives)), np.nan)
        for at, row in enumerate(codes_NP):
            price = self._price(row)
            values[at] = np.inf if price is None else price
        return values

    def measure(self, row_P: Codes, seed: int) -> Outcome:
        """Train one design in this process; what goes wrong becomes the reason."""
        reason = self.beyond(row_P)
        if reason:
            return Outcome(reason=reason)
        values = self.prices(row_P[None])[0]
        if not np.isnan(values).any():
            return Outcome(tuple(map(float, values)))
        try:
            own = self.decided(row_P)
            spec = make({**self.training.model_dump(), **own, "seed": seed})
            design = fit(self.architecture(self.space.design(row_P)), self.task)
            model = build(design, self.task.input_type(), seed=seed)
            if PLAN in own:
                apply(model, Plan.read(own[PLAN]), choose(spec.device))
            if FUSION in own:
                fuse(model, Fusion.read(own[FUSION]))
            with tempfile.TemporaryDirectory(prefix="hybridlab-search-") as folder:
                result = train(model, self.task, spec, folder=Path(folder))
        except HybridLabError as error:
            return Outcome(reason=str(error)[:500])
        return self.finished(row_P, result.metrics)

    def beyond(self, row_P: Codes) -> str:
        """Return why a design need not be trained: it cannot be built, or costs more than a limit; empty: it may be."""
        values = self.prices(row_P[None])
        if np.isinf(values).any():
            return "it cannot be built"
        for column, objective in enumerate(self.objectives):
            limit = self.limits.get(objective.name)
            value = float(values[0, column])
            if limit is not None and objective.sign * value > objective.sign * limit:
                return f"its predicted {objective.name} of {value:,.6g} is beyond the limit of {limit:,.6g}"
        return ""

    def finished(
        self,
        row_P: Codes,
        metrics: Mapping[str, float | None],
        energy: Mapping[str, Any] | None = None,
        times: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Return what a design's training comes to: by its run's metrics, by its energy meters, and by the clock."""
        values = self.prices(row_P[None])[0]
        for at in np.flatnonzero(np.isnan(values)):
            name = self._names[at]
            told = energy if name == JOULES.name else times if name in TIMED else metrics
            value = (told or {}).get(name)
            if value is None:
                why = "" if told is metrics else str((told or {}).get("not_measured") or "")
                return Outcome(reason=f"its training told no {name}" + (f": {why}" if why else ""))
            values[at] = value
        return Outcome(tuple(map(float, values)))

    @property
    def timed(self) -> tuple[str, ...]:
        """What is timed of each design once it has trained."""
        return tuple(name for name in self._names if name in TIMED)

    def step_ms(self, row_P: Codes) -> float | None:
        """Return the predicted milliseconds of a design's step: with its plan, else plain; None: it cannot be built."""
        found = self._told(self.space.design(row_P), ("step_ms",))
        return None if found is None else found["step_ms"]

    def decided(self, row_P: Codes) -> dict[str, Any]:
        """Return the settings that a design decides for its training: plan, precision and fusion."""
        if not self._decided:
            return {}
        design = self.space.design(row_P)
        return self._decided.settings(fit(self.architecture(design), self.task), design)

    def hand_designs(self) -> list[Design]:
        """Return the architecture as it is, with each other component in each slot, the smallest and the largest."""
        return designs_around(self.space, self.marked.own_design())

    def architecture(self, design: Design) -> Architecture:
        """Return a design as an architecture, without what the task supplies."""
        return self.marked.architecture_of(design)

    def exact(self) -> tuple[Array, float] | None:
        """Return nothing: the true front would take training every design."""
        return None

    def _plain(self, row_P: Codes) -> Codes:
        """Return a row with the choices that change nothing at their first value, so that it has one form."""
        design = self.space.design(row_P)
        return np.where(self.marked.matters(design), row_P, 0)

    def _mended(self, row_P: Codes) -> Codes:
        """Return a row that can be built, with few choices changed and by little; -1s where none is near."""
        if self._price(row_P) is not None:
            return row_P
        near = [
            (places, values)
            for count in (1, 2)
            for places in itertools.combinations(range(len(row_P)), count)
            for values in itertools.product(*(range(self.space.sizes[p]) for p in places))
            if all(row_P[p] != v for p, v in zip(places, values, strict=True))
        ]
        near.sort(
            key=lambda one: (
                len(one[0]),
                sum(abs(int(row_P[p]) - v) for p, v in zip(*one, strict=True)),
            )
        )
        for places, values in near[:_NEAR]:
            other = row_P.copy()
            other[list(places)] = values
            other = self._plain(other)
            if self._price(other) is not None:
                return other
        return np.full_like(row_P, -1)

    def _price(self, row_P: Codes) -> tuple[float, ...] | None:
        """Return a row's predicted objectives, NaN for the measured; None where it cannot be built or fit the task."""
        key = row_P.tobytes()
        if key not in self._prices:
            self._prices[key] = self._predicted(self.space.design(row_P))
        return self._prices[key]

    def _predicted(self, design: Design) -> tuple[float, ...] | None:
        found = self._told(design, self._names)
        if found is None:
            return None
        return tuple(found.get(name, np.nan) for name in self._names)

    def _told(self, design: Design, names: tuple[str, ...]) -> dict[str, float] | None:
        """Return what is predicted of a design; None where it cannot be built or fit the task."""
        try:
            return prices(
                fit(self.architecture(design), self.task),
                self.task,
                self.training,
                names,
                decided=self._decided,
                design=design,
            )
        except (HybridLabError, ValueError):  # pydantic's are ValueErrors: a repeat of 0, for one
            return None
