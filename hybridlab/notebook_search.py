"""Searches in a notebook: ``hl.run_search("jamba_tradeoff", trials=40)`` shows how far it is and returns its front."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, RunError
from hybridlab.notebook_progress import Bar
from hybridlab.places import sample_configs

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridlab.search.front import ParetoFront
    from hybridlab.search.spec import SearchSpec


@dataclass(frozen=True)
class FoundFront:
    """What a search has found: its front as a table, as a figure, and each point as an architecture."""

    front: ParetoFront

    @property
    def study(self) -> str:
        """The study's name, as pages and the command line use it."""
        return self.front.study

    @property
    def table(self) -> pd.DataFrame:
        """The points, from the first objective's best on: values, with units, and the choices that made them."""
        names = [f"{one.name} ({one.unit or one.source})" for one in self.front.objectives]
        rows = [
            {"trial": point.trial, **dict(zip(names, point.values, strict=True)), **point.design}
            for point in self.front.points
        ]
        return pd.DataFrame(rows, columns=None if rows else ["trial", *names]).set_index("trial")

    def plot(self, x: str | None = None, y: str | None = None) -> go.Figure:
        """Return all trials over two objectives, by default the first predicted one and the measured one.

        Raises:
            RunError: there is no objective of a name, or no trial has ended.
        """
        from hybridlab.search.state import StudyWatch
        from hybridlab.views.search_front import front_info, front_plot

        names = [one.name for one in self.front.objectives]
        chosen = [x or names[1], y or names[0]]
        if unknown := [name for name in chosen if name not in names]:
            expected = "one of " + ", ".join(names)
            raise RunError(Problem("plot", f"there is no objective {unknown[0]!r}", expected))
        state = StudyWatch(self.study).look()
        if not state.done:
            raise RunError(Problem("plot", "no trial of the study has values yet"))
        return front_plot(front_info(state, [names.index(name) for name in chosen]))

    def architecture(self, trial: int) -> Architecture:
        """Return a point of the front.

        Raises:
            RunError: the trial is not on the front.
        """
        for point in self.front.points:
            if point.trial == trial:
                return point.architecture
        there = ", ".join(str(point.trial) for point in self.front.points)
        raise RunError(Problem("trial", f"trial {trial} is not on the front", there))

    def best_within(self, wanted: str, **limits: float) -> Architecture:
        """Return the point with the best ``wanted`` within limits on other objectives, such as ``peak_bytes=2**26``.

        Raises:
            RunError: no point keeps the limits; it names the nearest.
        """
        return self.front.best_within(wanted, limits).architecture

    def knee(self) -> Architecture:
        """Return the point beyond which a little more of one objective costs much of the others.

        Raises:
            RunError: the front is empty.
        """
        point = self.front.knee()
        if point is None:
            raise RunError(Problem("front", "no trial keeps the limits yet"))
        return point.architecture

    def __repr__(self) -> str:
        """Say in one line how far the study is."""
        front = self.front
        return f"{front.study}: {front.trials:,} trials, {len(front.points):,} on the front"


def run_search(
    file: str | os.PathLike[str] | SearchSpec,
    *,
    trials: int | None = None,
    workers: int = 1,
    sampler: str | None = None,
    seed: int | None = None,
    study: str | None = None,
    storage: str | None = None,
) -> FoundFront:
    """Search the designs that a file allows, with live progress, and return the front.

    ``file`` is a search file, the name of a sample, or YAML text of several lines; what is left out comes from it. A
    ``study`` of that name is gone on with. Stopping the cell ends the search; what has ended by then is returned.

    Raises:
        SpecError, TaskError, RunError, StoreError: what is wrong with the search, its task, its study or its storage.
    """
    from hybridlab.search.spec import search_of
    from hybridlab.workflows import search
    from hybridlab.workflows.work import stopped_by_signals

    told = Bar("trials")
    given = search_of(file) if isinstance(file, str) and "\n" in file.strip() else _sample(file)
    with stopped_by_signals() as should_stop:
        front = search.run_search(
            given,
            trials=trials,
            workers=workers,
            sampler=sampler,
            seed=seed,
            study=study,
            storage=storage,
            on_trial=told.part,
            on_words=told.say,
            should_stop=should_stop,
        )
    found = FoundFront(front)
    told.say(repr(found))
    return found


def _sample(file: str | os.PathLike[str] | SearchSpec) -> str | os.PathLike[str] | SearchSpec:
    """Return the file of a sample's name; anything else as it is."""
    if isinstance(file, str) and not Path(file).exists():
        sample = sample_configs() / "searches" / f"{file}.yaml"
        if sample.parent == sample.resolve().parent and sample.exists():
            return sample
    return file
