"""A task's data card: what it asks, examples as text, how much there is, and what needs no learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hybridlab.components.types import TensorKind
from hybridlab.tasks.base import IGNORED, Batch, Task

_BARS = "▁▂▃▄▅▆▇█"
_SHADES = " .:-=+*#%@"
_MOST_TOKENS, _MOST_COLUMNS = 160, 80
_MOST_CHANNELS = 3


@dataclass(frozen=True)
class Example:
    """One training sample as text: what a model reads, and what it is to answer."""

    inputs: str
    answer: str


@dataclass(frozen=True)
class DataCard:
    """What a person wants to know of a task's data."""

    name: str
    title: str
    summary: str
    tests: str
    source: str
    inputs: str
    """Kind, shape and dtype of a batch's inputs."""
    answers: str
    train_samples: int | None
    """None where each step draws its own."""
    evaluated: dict[str, int]
    """Scored answers of each other split."""
    metric: str
    unit: str
    """Of the metric; empty for shares."""
    baselines: dict[str, float]
    examples: tuple[Example, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def data_card(task: Task, examples: int = 3, seed: int = 0) -> DataCard:
    """Return the card of a task as it is set; the examples are from the first training batch.

    Raises:
        TaskError: its data cannot be read.
    """
    batch = task.train_batch(0, examples, seed)
    splits = (*task.val_splits, *task.test_splits)
    return DataCard(
        name=task.name,
        title=task.title,
        summary=task.summary,
        tests=task.tests,
        source=task.source,
        inputs=str(task.input_type()),
        answers=str(task.output_type()),
        train_samples=task.train_size,
        evaluated={
            split: sum(int(one.mask.sum()) for one in task.evaluation(split)) for split in splits
        },
        metric=task.metric,
        unit=task.unit,
        baselines=task.baselines(),
        examples=tuple(_example(task, one) for one in batch.split(examples)),
    )


def _example(task: Task, batch: Batch) -> Example:
    kind, inputs, targets = task.input_type().kind, batch.inputs[0], batch.targets[0]
    if kind is TensorKind.TOKENS:
        written = _tokens(task, inputs, task.spelled)
    elif kind is TensorKind.IMAGE:
        written = _image(inputs)
    else:
        written = _series(inputs)
    if targets.ndim:
        return Example(written, _tokens(task, targets, task.spelled_answer))
    if targets.is_floating_point():
        return Example(written, f"{targets.item():.4g} {task.unit}".rstrip())
    return Example(written, task.spelled_answer(int(targets)))


def _tokens(task: Task, tokens: Tensor, spelled: Callable[[int], str]) -> str:
    """Write tokens with spaces between them, a low line where nothing is asked; single characters stand together."""
    shown = ["_" if t == IGNORED else spelled(t) for t in tokens[:_MOST_TOKENS].tolist()]
    text = ("" if task.run_together else " ").join(shown).rstrip()
    return f"{text} …" if len(tokens) > _MOST_TOKENS else text


def _series(values_LC: Tensor) -> str:
    """Draw each of the first channels as a line of bars, from its least to its greatest value."""
    lines = []
    for channel_L in values_LC[:, :_MOST_CHANNELS].T:
        if len(channel_L) > _MOST_COLUMNS:
            edges = torch.linspace(0, len(channel_L), _MOST_COLUMNS + 1).long()
            channel_L = torch.stack([part.mean() for part in channel_L.tensor_split(edges[1:-1])])
        lines.append("".join(_BARS[i] for i in _levels(channel_L, len(_BARS))))
    more = values_LC.shape[1] - _MOST_CHANNELS
    return "\n".join([*lines, f"and {more} more channels"] if more > 0 else lines)


def _image(values_CHW: Tensor) -> str:
    """Draw an image's mean over channels as shades, each value two characters wide."""
    grey_HW = values_CHW.mean(dim=0)
    step = max(1, -(-max(grey_HW.shape) // (_MOST_COLUMNS // 2)))
    grey_HW = grey_HW[::step, ::step]
    levels = torch.tensor(_levels(grey_HW.flatten(), len(_SHADES))).reshape(grey_HW.shape)
    return "\n".join("".join(2 * _SHADES[i] for i in row).rstrip() for row in levels.tolist())


def _levels(values: Tensor, count: int) -> list[int]:
    low, high = values.min(), values.max()
    if high <= low:
        return [0] * len(values)
    return [min(count - 1, int(x * count)) for x in ((values - low) / (high - low)).tolist()]
