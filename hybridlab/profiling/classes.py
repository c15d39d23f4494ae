"""How a model behaves on different inputs: routes, exits, time and memory by class of input."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from hybridlab.architecture.answering import answering
from hybridlab.architecture.model import GraphModel
from hybridlab.profiling.session import device_of, profiled
from hybridlab.profiling.sweep import UNATTRIBUTED
from hybridlab.tasks.base import Batch, Task
from hybridlab.trace.step import TrainingStep

_MOST_LABELS = 20
_SAMPLES, _ROUNDS = 32, 5
_THIRDS = ("low", "middle", "high")


@dataclass(frozen=True)
class InputClass:
    """Samples that have something in common; ``name`` says what, such as ``label 3``."""

    name: str
    batch: Batch

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self.batch.inputs)


@dataclass(frozen=True)
class ByClass:
    """What was measured by class of input, as three tables.

    ``classes``: input_class, samples, length, score (mean of the task's measure over the answers), ms (of a sample,
    median over rounds), low_ms, high_ms, activation_bytes (at the peak of a forward, weights aside).
    ``components``: input_class, component, ms (of a sample), low_ms, high_ms, share (of the forward's time).
    ``reports``: input_class, component, name, index, value: what components tell, such as each expert's share of the
    load; ``left`` is the share of the samples that an exit let go.
    """

    classes: pa.Table
    components: pa.Table
    reports: pa.Table

    def as_dict(self) -> dict[str, Any]:
        """Return the tables and ``spread`` as lists of rows, JSON-ready."""
        return {name: table.to_pylist() for name, table in self._tables().items()}

    def _tables(self) -> dict[str, pa.Table]:
        return {
            "classes": self.classes,
            "components": self.components,
            "reports": self.reports,
            "spread": self.spread(),
        }

    def save(self, folder: Path) -> None:
        """Write the tables and ``spread`` as Parquet files ``class_*.parquet`` into a folder, each replaced whole."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self._tables().items():
            draft = folder / f".class_{name}.parquet.tmp"
            pq.write_table(table, draft)
            draft.replace(folder / f"class_{name}.parquet")

    def spread(self) -> pa.Table:
        """Return how far each component's time differs from class to class, the most first.

        Columns: component, ms (mean over classes), spread (standard deviation over classes divided by the mean) and
        noise (half of what the rounds of one class lie apart, divided by the mean): a spread within the noise is none.
        """
        rows: dict[str, list[tuple[float, float]]] = {}
        for row in self.components.to_pylist():
            apart = (row["high_ms"] - row["low_ms"]) / 2
            rows.setdefault(row["component"], []).append((row["ms"], apart))
        found = []
        for component, values in rows.items():
            mean = statistics.fmean(ms for ms, _ in values)
            noise = statistics.fmean(apart for _, apart in values)
            some = max(mean, 1e-12)
            found.append(
                (component, mean, statistics.pstdev(ms for ms, _ in values) / some, noise / some)
            )
        found.sort(key=lambda row: -row[2])
        names = ("component", "ms", "spread", "noise")
        return pa.table({name: [row[place] for row in found] for place, name in enumerate(names)})


def input_classes(
    task: Task, samples: int = _SAMPLES, losses: Callable[[Batch], Tensor] | None = None
) -> list[InputClass]:
    """Return a task's test samples sorted into classes of equally many samples where there are enough.

    By label where a sample has one answer of few; else in thirds, by how many different tokens a sample holds or how
    strong its signal is, or, where these are all alike, by ``losses``: what the model makes of each sample (B,). Each
    further test split, such as longer inputs, is a class too.
    """
    first, *others = task.test_splits
    targets = next(iter(task.evaluation(first))).targets
    one_answer = targets.dim() == 1 and not targets.is_floating_point()
    batch = _collected(task, first, samples * (_MOST_LABELS if one_answer else 9))
    labels = torch.unique(batch.targets)
    if one_answer and len(labels) <= _MOST_LABELS:
        found = list(_by_label(batch, labels.tolist(), samples))
    else:
        found = list(_thirds(batch, *_variety(batch, losses), samples))
    for split in others:
        found.append(InputClass(f"split {split}", _collected(task, split, samples)))
    return found


@torch.no_grad()
def measure_classes(
    model: GraphModel,
    task: Task,
    *,
    samples: int = _SAMPLES,
    rounds: int = _ROUNDS,
    on_round: Callable[[int], object] = lambda number: None,
) -> ByClass:
    """Run a model forward on every class of a task's test inputs, in turns, and return what differs.

    Samples leave at exits as they would in use. ``on_round`` hears the number of each round; what it raises ends it.
    """
    device = device_of(model)

    def losses(batch: Batch) -> Tensor:
        outputs = model(batch.inputs.to(device)).cpu()
        pairs = zip(outputs.split(1), batch.split(len(batch.inputs)), strict=True)
        return torch.stack([task.loss(output, sample) for output, sample in pairs])

    with answering(model):
        classes = input_classes(task, samples, losses)
    found = [InputClass(one.name, one.batch.to(device)) for one in classes]
    steps = [TrainingStep(model, (one.batch.inputs,), None, None) for one in found]
    times: list[dict[str, list[float]]] = [{} for _ in found]
    wholes: list[list[float]] = [[] for _ in found]
    peaks = [0] * len(found)
    with answering(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(rounds):
                on_round(number)
                for place, step in enumerate(steps):
                    swept, memory, _ = profiled(
                        step, 1, device, None, first=not place and not number
                    )
                    for path, ms in _ms(swept.ns).items():
                        times[place].setdefault(path, []).append(ms)
                    wholes[place].append(sum(swept.step_ns) / 1e6)
                    changes = np.cumsum([size for _, size in memory] or [0])
                    peaks[place] = max(peaks[place], int(changes.max()))
        told = [_told(model, one) for one in found]
        scores = [_score(model, task, one.batch) for one in found]
    return ByClass(
        _classes(found, wholes, peaks, scores), _components(found, times), _reports(found, told)
    )


def _collected(task: Task, split: str, samples: int) -> Batch:
    """Return the first samples of a split as one batch."""
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    for batch in task.evaluation(split):
        inputs.append(batch.inputs)
        targets.append(batch.targets)
        if sum(map(len, inputs)) >= samples:
            break
    return Batch(torch.cat(inputs)[:samples], torch.cat(targets)[:samples])


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return Batch(batch.inputs[rows], batch.targets[rows])


def _by_label(batch: Batch, labels: Sequence[int], samples: int) -> Iterator[InputClass]:
    for label in labels:
        rows = (batch.targets == label).nonzero().squeeze(1)[:samples]
        yield InputClass(f"label {label}", _rows(batch, rows))


def _variety(batch: Batch, losses: Callable[[Batch], Tensor] | None) -> tuple[str, Tensor]:
    """Return a name and a number a sample (B,) by which samples differ."""
    if batch.inputs.dtype == torch.int64:
        what = "different tokens"
        measured_B = torch.tensor([float(len(torch.unique(sample))) for sample in batch.inputs])
    else:
        what = "signal"
        measured_B = batch.inputs.flatten(1).float().square().mean(1).sqrt()
    if losses is not None and measured_B.max() <= measured_B.min():
        return "loss", losses(batch)
    return what, measured_B


def _thirds(batch: Batch, what: str, measured_B: Tensor, samples: int) -> Iterator[InputClass]:
    """Yield the samples with low, middle and high values; one class where all are alike."""
    if measured_B.max() <= measured_B.min():
        yield InputClass("all", _rows(batch, torch.arange(min(samples, len(batch.inputs)))))
        return
    order_B = measured_B.argsort(stable=True)
    for name, rows in zip(_THIRDS, order_B.tensor_split(len(_THIRDS)), strict=True):
        if len(rows):
            kept = rows[torch.linspace(0, len(rows) - 1, min(samples, len(rows))).long()]
            low, high = measured_B[kept].min().item(), measured_B[kept].max().item()
            yield InputClass(f"{name} {what} ({low:.3g} to {high:.3g})", _rows(batch, kept))


def _ms(ns: Mapping[tuple[str, str], int]) -> dict[str, float]:
    """Return milliseconds by component, whatever has no name left out."""
    found: dict[str, float] = {}
    for (path, _), count in ns.items():
        if path != UNATTRIBUTED:
            found[path] = found.get(path, 0.0) + count / 1e6
    return found


def _told(model: GraphModel, one: InputClass) -> dict[str, dict[str, list[float]]]:
    """Return what components tell of a class, every number as a list; exits tell the share that left there."""
    model(one.batch.inputs)
    found = {
        path: {name: value if isinstance(value, list) else [value] for name, value in told.items()}
        for path, told in model.reports().items()
    }
    for path, count in model.left().items():
        found.setdefault(path, {})["left"] = [count / max(1, one.samples)]
    return found


def _score(model: GraphModel, task: Task, batch: Batch) -> float:
    """Return the mean of the task's measure over the answers of a class."""
    return float(task.score(model(batch.inputs), batch)) / max(1, int(batch.mask.sum()))


def _classes(
    found: Sequence[InputClass],
    wholes: Sequence[Sequence[float]],
    peaks: Sequence[int],
    scores: Sequence[float],
) -> pa.Table:
    rows = []
    for one, times, peak, score in zip(found, wholes, peaks, scores, strict=True):
        each = [ms / one.samples for ms in times]
        rows.append(
            {
                "input_class": one.name,
                "samples": one.samples,
                "length": int(one.batch.inputs.shape[1]),
                "score": score,
                "ms": statistics.median(each),
                "low_ms": min(each),
                "high_ms": max(each),
                "activation_bytes": peak,
            }
        )
    return pa.Table.from_pylist(rows)


def _components(
    found: Sequence[InputClass], times: Sequence[Mapping[str, Sequence[float]]]
) -> pa.Table:
    rows = []
    for one, mine in zip(found, times, strict=True):
        whole = sum(statistics.median(values) for values in mine.values())
        for path, values in mine.items():
            each = [ms / one.samples for ms in values]
            rows.append(
                {
                    "input_class": one.name,
                    "component": path,
                    "ms": statistics.median(each),
                    "low_ms": min(each),
                    "high_ms": max(each),
                    "share": statistics.median(values) / max(1e-12, whole),
                }
            )
    return pa.Table.from_pylist(rows)


def _reports(
    found: Sequence[InputClass], told: Sequence[Mapping[str, Mapping[str, Sequence[float]]]]
) -> pa.Table:
    schema = pa.schema(
        [
            ("input_class", pa.string()),
            ("component", pa.string()),
            ("name", pa.string()),
            ("index", pa.int64()),
            ("value", pa.float64()),
        ]
    )
    rows = [
        {
            "input_class": one.name,
            "component": path,
            "name": name,
            "index": i,
            "value": float(value),
        }
        for one, of_class in zip(found, told, strict=True)
        for path, report in of_class.items()
        for name, values in report.items()
        for i, value in enumerate(values)
    ]
    return pa.Table.from_pylist(rows, schema=schema)
