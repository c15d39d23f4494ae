"""What makes a step faster or smaller, kept only where it is measured so, in a notebook; and what a design caches.

``hl.train(…, fusion=hl.fuse(design, "mqar", training=True))`` trains with what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from hybridlab.architecture.library import architecture_of
from hybridlab.architecture.spec import Architecture
from hybridlab.notebook_progress import Bar
from hybridlab.notebook_settings import plain_settings

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Report(Protocol):
    """What was measured of a model as it is, and with what was chosen."""

    @property
    def why(self) -> str:
        """Why it was chosen, or not."""

    @property
    def applied(self) -> bool:
        """Whether anything was."""

    @property
    def busy(self) -> bool:
        """Whether others kept the machine busy meanwhile."""

    @property
    def others_cores(self) -> float:
        """How many cores they used."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen by measuring, and the report of it."""

    setting: str
    """Of a training, that takes it."""
    found: Report

    @property
    def table(self) -> pd.DataFrame:
        """A row for each thing that was tried: time over that without (``ratio.value``), differences, the verdict."""
        return pd.json_normalize(self.found.as_dict()["judged"])

    @property
    def applied(self) -> bool:
        """Whether anything was measured better and is kept."""
        return self.found.applied

    def as_setting(self) -> dict[str, Any]:
        """Return what was chosen as a training's setting has it."""
        return dict(self.found.as_dict()[self.setting])

    def __repr__(self) -> str:
        """Say in one line what came of it."""
        told = self.found.as_dict()
        ratio = told["ratio"]
        took = (
            f", {ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] of the time, measured"
            if self.applied and ratio
            else ""
        )
        cores = f"; others used {self.found.others_cores:.1f} cores meanwhile"
        others = f"{cores}: times are no timings" if self.found.busy else ""
        return f"{self.setting}: {self.found.why}{took}{others}"


@dataclass(frozen=True)
class Found:
    """A table and a figure of what was predicted and measured."""

    content: Mapping[str, Any]
    tabled: Callable[[Mapping[str, Any]], pd.DataFrame]
    drawn: Callable[[Mapping[str, Any]], go.Figure]

    @property
    def table(self) -> pd.DataFrame:
        """All of it, units in the columns' names."""
        return self.tabled(self.content)

    def plot(self) -> go.Figure:
        """Return the figure."""
        return self.drawn(self.content)

    def __repr__(self) -> str:
        """Write the table."""
        return self.table.to_string()


def fuse(
    architecture: Architecture | str,
    task: str,
    *,
    training: bool = False,
    regions: bool = False,
    rounds: int = 21,
    **settings: Any,
) -> Chosen:
    """Fuse linear maps that read one tensor, and for inference norms into the maps behind them, where that is faster.

    Args:
        architecture: one, its name, or its file.
        task: supplies input, head, loss and batch.
        training: whether training steps are to be faster; else passes forward.
        regions: compile components instead, each for itself, which takes minutes.
        rounds: turns that are timed, fewer where they take long.
        settings: those of ``TrainSpec``, such as ``batch``.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
        RunError: regions are to be compiled, and there is no compiler.
    """
    design, asked, bar = _asked(architecture, task, settings)
    if regions:
        from hybridlab.workflows.regions import regions_training

        options: Any = {"training": training, "rounds": rounds, "on_part": bar.part}
        return Chosen("regions", regions_training(design, asked, **options))
    from hybridlab.workflows.fusion import fuse_training

    fused = fuse_training(design, asked, training=training, rounds=rounds, on_part=bar.part)
    return Chosen("fusion", fused)


def tune(
    architecture: Architecture | str,
    task: str,
    *,
    training: bool = False,
    layouts: bool = False,
    exact: bool = False,
    again: bool = False,
    rounds: int = 21,
    **settings: Any,
) -> Chosen:
    """Choose the chunks of scans and how sequences lie within components, as they are fastest on this machine.

    With ``layouts`` it is chosen over the whole graph how sequences lie, handed over and within, and no chunks; with
    ``exact`` only what leaves every bit of output and gradients as it is; and with ``again`` also what was measured on
    this machine before. The rest is as in ``fuse``.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    from hybridlab.workflows.tuning import tune_training

    design, asked, bar = _asked(architecture, task, settings)
    options: Any = {"chunks": not layouts, "hand_overs": layouts, "again": again, "exact": exact}
    options |= {"training": training, "rounds": rounds, "on_part": bar.part}
    return Chosen("tuning", tune_training(design, asked, **options))


def precision(
    architecture: Architecture | str,
    task: str,
    *,
    training: bool = False,
    memory: bool = False,
    format: str | None = None,
    tolerance: float = 5e-2,
    loss_tolerance: float = 1e-2,
    rounds: int = 21,
    **settings: Any,
) -> Chosen:
    """Choose components that compute in another number format, where that is right enough and measured better.

    Args:
        architecture: one, its name, or its file.
        task: supplies input, head, loss and batch.
        training: whether it is for training steps; else for passes forward.
        memory: whether training steps are to keep fewer bytes, rather than take less time.
        format: ``bfloat16``, ``float16`` or ``float32``; bfloat16, or float32 in a step that has another one.
        tolerance: largest relative difference of gradients, or of the output forward, from float32.
        loss_tolerance: the same of the loss.
        rounds: turns that are timed, fewer where they take long.
        settings: those of ``TrainSpec``, such as ``batch``.

    Raises:
        SpecError: the architecture, a setting or a tolerance is wrong.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device, or it does not have the format.
    """
    from hybridlab.workflows.precision import measure_precisions

    design, asked, bar = _asked(architecture, task, settings)
    found = measure_precisions(
        design,
        asked,
        training=training,
        memory=memory,
        format=format,
        tolerance=tolerance,
        loss_tolerance=loss_tolerance,
        rounds=rounds,
        on_part=bar.part,
    )
    return Chosen("precisions", found)


def caches(architecture: Architecture | str, task: str | None = None, **options: Any) -> Found:
    """Return what every component keeps between two positions of incremental inference, predicted and measured.

    ``options`` are those of ``caches_of``: ``positions``, ``batch``, ``growth``, ``measure`` and others.

    Raises:
        SpecError: the architecture has errors, or a number is out of range.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    from hybridlab.views.caches import caches_info, caches_plot, caches_table
    from hybridlab.workflows.caches import caches_of

    found = caches_of(architecture_of(architecture), task, **options)
    return Found(found.as_dict(), caches_table, lambda content: caches_plot(caches_info(content)))


def buckets(
    architecture: Architecture | str,
    task: str,
    *,
    counts: Sequence[int] | None = None,
    measure: bool = True,
    **settings: Any,
) -> Found:
    """Return what a training takes with its samples sorted by length in so many batches at a time, and without.

    ``counts`` are numbers of batches that are drawn together; ``settings`` are those of ``TrainSpec``.

    Raises:
        SpecError: the architecture, a setting or a number is wrong, or all samples are of one length.
        TaskError: the task is unknown or does not fit.
        DeviceError: there is no such device.
    """
    from hybridlab.views.buckets import buckets_info, buckets_plot, buckets_table
    from hybridlab.workflows.buckets import compare_buckets

    design, asked, bar = _asked(architecture, task, settings)
    tried: Any = {} if counts is None else {"counts": tuple(counts)}
    found = compare_buckets(
        design, asked, measure=measure, on_part=lambda what, done, of: bar.part(done, of), **tried
    )
    return Found(
        found.as_dict(), buckets_table, lambda content: buckets_plot(buckets_info(content))
    )


def _asked(
    architecture: Architecture | str, task: str, settings: Mapping[str, Any]
) -> tuple[Architecture, dict[str, Any], Bar]:
    return (
        architecture_of(architecture),
        plain_settings({**settings, "task": task}),
        Bar("parts measured"),
    )
