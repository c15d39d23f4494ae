"""HybridLab in a notebook: ``import hybridlab as hl``; architectures draw themselves, training shows its progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hybridlab.architecture import document, library
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, RunError
from hybridlab.notebook_progress import progress_of_run, running_shell
from hybridlab.notebook_settings import plain_settings
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.units import format_seconds

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from torch import nn

    from hybridlab.profiling.record import Profile
    from hybridlab.trace.predict import Prediction


def load(source: str | os.PathLike[str]) -> Architecture:
    """Return an architecture from a file, the name of a preset or saved design, or YAML text of several lines.

    Raises:
        SpecError: it is not there, or does not describe an architecture; the error holds every problem.
    """
    return library.architecture_of(source)


def presets() -> pd.DataFrame:
    """Return the architectures that ship with HybridLab: name, description and source."""
    rows = [(entry.name, entry.description, entry.source) for entry in library.presets()]
    return pd.DataFrame(rows, columns=["name", "description", "source"])


def predict(
    architecture: Architecture | str,
    task: str | None = None,
    *,
    batch: int = 8,
    length: int | None = None,
    device: str = "cpu",
) -> Prediction:
    """Predict one training step: parameters, FLOPs, bytes and milliseconds, by component.

    With a task, the architecture gets the task's input, head and length; without one the length is 64 positions. Times
    are of this machine's CPU, of an accelerator that is here (``cuda:0``), or of one that is not by what its maker
    publishes (``H100``); ``ceilings`` of what comes back says which numbers they stand on.

    Raises:
        SpecError: the architecture has errors.
        TaskError: it does not fit the task.
        DeviceError: the device is not here, and nothing is published of it.
    """
    from hybridlab.tasks.registry import fit
    from hybridlab.tasks.registry import task as make_task
    from hybridlab.trace.machine import speed_of
    from hybridlab.trace.predict import predict as predicted

    design = library.architecture_of(architecture)
    _, roofline = speed_of(device)
    if task is None:
        return predicted(design, batch=batch, length=length or 64, roofline=roofline)
    chosen = make_task(task)
    return predicted(
        fit(design, chosen),
        chosen.input_type(),
        batch=batch,
        length=length or chosen.length,
        roofline=roofline,
    )


def show(
    architecture: Architecture | str,
    task: str | None = None,
    *,
    batch: int = 8,
    length: int | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """Return the predicted cost of every component, and their total, as a table.

    Columns: params, flops (forward), activation_bytes (kept for backward) and ms (a training step). ``device`` is as
    for ``predict``.

    Raises:
        SpecError: the architecture has errors.
        TaskError: it does not fit the task.
    """
    found = predict(architecture, task, batch=batch, length=length, device=device)
    rows = [
        (cost.path, cost.use, cost.params, cost.flops, cost.activation_bytes, cost.ms)
        for cost in found.components
    ]
    total = ("total", "", found.params, found.flops_forward, found.activation_bytes, found.step_ms)
    columns = ["component", "use", "params", "flops", "activation_bytes", "ms"]
    return pd.DataFrame([*rows, total], columns=columns).set_index("component")


def profile(
    subject: Architecture | str | nn.Module,
    batch: Any = None,
    *,
    task: str | None = None,
    steps: int = 10,
    length: int | None = None,
    loss: Callable[[Any], Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
    by_input: bool = False,
    by_size: bool = False,
    lengths: Sequence[int] = (),
    batches: Sequence[int] = (),
) -> Profile:
    """Measure a training step component by component, backward included, with its prediction beside it.

    Args:
        subject: an architecture (or its name or file), or any PyTorch module, whose submodules are then the components.
        batch: the number of samples for an architecture; for a module what it is called with, a tensor or a tuple.
        task: supplies input, head, loss and length of an architecture, and the optimiser that training would use.
        steps: how many steps are timed, and how many are profiled.
        length: positions of a sample where there is no task; 64 where nothing is said.
        loss: makes a scalar of a module's output; its mean square where none is given.
        folder: where the trace for TensorBoard goes.
        by_input: also run it forward on each class of the task's test inputs: routes, exits, time, memory.
        by_size: also run it forward at several lengths and batches: time, memory.
        lengths: positions for that, where not half, all and twice the task's own.
        batches: samples for that, where not one and the training's batch.

    Raises:
        SpecError: the architecture has errors.
        TaskError: it does not fit the task.
        HybridLabError: ``batch`` does not fit what is profiled.
    """
    from hybridlab.workflows.profile_inputs import profile_with_inputs

    return profile_with_inputs(
        load(subject) if isinstance(subject, str) else subject,
        batch,
        {"by_input": by_input, "by_size": by_size, "lengths": lengths, "batches": batches},
        task=task,
        steps=steps,
        length=length,
        loss=loss,
        folder=Path(folder) if folder is not None else None,
    )


@dataclass(frozen=True)
class TrainedRun:
    """A run that has ended: its outcome, its curves and its files."""

    run: Run

    @property
    def id(self) -> str:
        """The run's id, as pages and the command line use it."""
        return self.run.id

    @property
    def state(self) -> str:
        """How it ended: DONE, CANCELLED, INTERRUPTED or FAILED."""
        return str(self.run.state)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last validation metrics and, where it is done, the test metrics."""
        return dict((self.run.result or {}).get("metrics") or {})

    @property
    def seconds(self) -> float:
        """Seconds spent training and scoring."""
        return float((self.run.result or {}).get("seconds") or 0.0)

    @property
    def energy(self) -> Mapping[str, Any]:
        """Joules by counters, for the run, a step, a sample and a token; null with a reason where there is none."""
        return dict((self.run.result or {}).get("energy") or {})

    @property
    def folder(self) -> Path:
        """The run's folder: settings, log, checkpoints and weights."""
        return run_folder(self.run.id)

    def history(self, *names: str) -> pd.DataFrame:
        """Return metrics as a table with a row a step and a column a metric; all of them where none is named."""
        columns = open_store().metrics(self.run.id, names=names or None)
        points = pd.DataFrame({"step": columns.step, "name": columns.name, "value": columns.value})
        return points.pivot_table(index="step", columns="name", values="value", aggfunc="last")

    def plot(self, metric: str = "loss") -> go.Figure:
        """Return the curve of a metric as a figure."""
        return compare([self], metric)

    def __repr__(self) -> str:
        """Write the outcome in one line."""
        measured = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        took = format_seconds(self.seconds)
        return f"{self.run.name}: {self.state.lower()} after {self.run.step} steps in {took}, {measured}"


def train(
    architecture: Architecture | str,
    task: str,
    *,
    name: str = "",
    threads: int | None = None,
    **settings: Any,
) -> TrainedRun:
    """Train an architecture on a task in a process of its own, with live progress, and return the run.

    ``settings`` are those of ``TrainSpec``, such as ``steps``, ``batch``, ``learning_rate`` and ``seed``; what is left
    out comes from the task. What ``hl.plan``, ``hl.fuse``, ``hl.tune`` and ``hl.precision`` found may be given
    as ``plan``, ``fusion``, ``tuning``, ``precisions`` and ``regions``. Stopping the cell asks the run to stop, which
    writes a checkpoint.

    Raises:
        SpecError: the architecture or a setting is wrong.
        TaskError: the task is unknown or does not fit.
        RunError: the run failed; the message says why.
    """
    from hybridlab.workflows.follow import follow
    from hybridlab.workflows.launch import start_training

    design = library.architecture_of(architecture)
    asked = plain_settings({**settings, "task": task})
    run = start_training(document.dump(design), asked, name=name, threads=threads)
    shown = progress_of_run()
    ended = follow(run, shown.update, shown.stopping)
    trained = TrainedRun(ended)
    shown.end(ended, repr(trained))
    if ended.state is RunState.FAILED:
        raise RunError(Problem(f"run {ended.id}", ended.error or "the run failed"))
    return trained


def compare(runs: Sequence[TrainedRun], metric: str = "loss") -> go.Figure:
    """Return the curves of one metric for one to eight runs as a figure.

    Raises:
        ValueError: there are more than eight runs.
    """
    from hybridlab.training.stage_spec import stage_names
    from hybridlab.views.curves import Curve, borders_of, curves_info, curves_plot

    curves, borders = [], []
    for trained in runs:
        columns = open_store().metrics(trained.id, names=[metric])
        points = tuple(columns.step), tuple(columns.seconds), tuple(columns.value)
        curves.append(Curve(trained.id, trained.run.name, *points))
        if names := stage_names(trained.run.spec.get("training")):
            columns = open_store().metrics(trained.id, names=["stage"])
            begun = zip(columns.step, columns.seconds, columns.value, strict=True)
            borders += borders_of(trained.id, list(begun), names)
    return curves_plot(curves_info(curves, metric, borders=borders))


def list_runs(limit: int = 50) -> pd.DataFrame:
    """Return the newest runs: id, name, state, step and test metrics."""
    rows = []
    for run in open_store().list(limit=limit):
        metrics = (run.result or {}).get("metrics") or {}
        tests = {key: value for key, value in metrics.items() if key.startswith("test_")}
        rows.append(
            {"id": run.id, "name": run.name, "state": str(run.state), "step": run.step} | tests
        )
    return pd.DataFrame(rows, columns=None if rows else ["id", "name", "state", "step"])


def _drawn(architecture: Architecture) -> str:
    """Return an architecture as SVG, with the types on its edges where it can be built."""
    from hybridlab.architecture.infer import infer
    from hybridlab.components.registry import catalogue
    from hybridlab.views.diagram import diagram_info
    from hybridlab.views.diagram_svg import diagram_svg

    inference = infer(architecture)
    return diagram_svg(diagram_info(architecture, inference.edges, inference.problems, catalogue()))


def _written(architecture: Architecture, printer: Any, cycle: bool) -> None:
    printer.text(outline(architecture))


def outline(architecture: Architecture) -> str:
    """Return an architecture as indented text, one node a line."""
    lines = [f"{architecture.name}: width {architecture.width}, {architecture.fingerprint}"]
    for path, _, node in architecture.walk():
        depth = path.count("[")
        settings = ", ".join(f"{key}={value}" for key, value in node.params.items())
        reads = f" <- {', '.join(node.inputs)}" if node.inputs else ""
        times = f" × {node.repeat}" if node.repeat > 1 else ""
        what = node.use or f"group{times}{', shared weights' if node.tie else ''}"
        what += f", weights of {node.share}" if node.share else ""
        what += f", low-rank pair of {node.lora}" if node.lora else ""
        lines.append(
            f"{'  ' * depth}{node.id}: {what}{f' ({settings})' if settings else ''}{reads}"
        )
    return "\n".join(lines)


def _register() -> None:
    """Let IPython draw architectures."""
    shell = running_shell()
    if shell is not None:
        formatters = shell.display_formatter.formatters
        formatters["text/html"].for_type(Architecture, _drawn)
        formatters["text/plain"].for_type(Architecture, _written)


_register()
