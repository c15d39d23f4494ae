"""Several tasks as one to the loop: whose turn it is at a step, and a batch that holds what each asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hybridlab.components.base import Params
from hybridlab.components.types import TensorType
from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.base import Batch, Task, stream

MEAN = "mean"


@dataclass(frozen=True)
class Part:
    """One of several tasks: what it is called, the head that answers it (None: one is put behind the trunk)."""

    name: str
    task: Task
    head: str | None = None
    weight: float = 1.0
    size: float | None = None


@dataclass(frozen=True)
class SeveralBatch(Batch):
    """What a step asks: each task's batch by its place in the list; ``inputs`` and ``targets`` are the first's."""

    of: tuple[tuple[int, Batch], ...]
    step: int
    seed: int

    @property
    def mask(self) -> Tensor:
        """True where an answer of any task is scored (number of answers)."""
        return torch.cat([batch.mask.reshape(-1) for _, batch in self.of])

    def to(self, device: torch.device) -> SeveralBatch:
        """Return the batch on a device; inputs that tasks have in common stay common."""
        moved: dict[int, Tensor] = {}
        for _, batch in self.of:
            moved.setdefault(id(batch.inputs), batch.to(device).inputs)
        return self._with(
            [
                (place, Batch(moved[id(batch.inputs)], batch.to(device).targets))
                for place, batch in self.of
            ]
        )

    def split(self, parts: int) -> list[Batch]:
        """Return at most ``parts`` pieces, each with its share of every task; common inputs stay common."""
        inputs = {id(batch.inputs): batch.inputs.tensor_split(parts) for _, batch in self.of}
        cut = [
            (place, inputs[id(batch.inputs)], batch.targets.tensor_split(parts))
            for place, batch in self.of
        ]
        pieces = (
            [(place, Batch(xs[piece], ys[piece])) for place, xs, ys in cut if len(xs[piece])]
            for piece in range(parts)
        )
        return [self._with(piece) for piece in pieces if piece]

    def _with(self, of: Sequence[tuple[int, Batch]]) -> SeveralBatch:
        first = of[0][1]
        return SeveralBatch(first.inputs, first.targets, tuple(of), self.step, self.seed)


class SeveralTasks(Task):
    """Several tasks that read inputs of one kind; to whoever knows of one task only, it is the first of them.

    A step's batch is a pure function of (seed, step), whose turn it is too.
    """

    title = "Several tasks"
    summary = "Several tasks on one trunk, each with a head of its own."

    def __init__(
        self,
        parts: Sequence[Part],
        sampling: str = "joint",
        temperature: float = 1.0,
        main: str | None = None,
    ) -> None:
        """Put tasks together; ``sampling`` and ``main`` are as ``several_spec.SeveralSpec`` has them.

        Raises:
            TaskError: they read inputs of different kinds, or different inputs where these are to be common; a size is
                not known that sampling needs; or the main metric is to be a mean over different measures.
        """
        super().__init__(Params())
        self.parts, self.sampling = tuple(parts), sampling
        self.first = self.parts[0].task
        self.name = " + ".join(part.name for part in self.parts)  # type: ignore[misc]
        self.source = "; ".join(dict.fromkeys(part.task.source for part in self.parts))  # type: ignore[misc]
        self.needs_causal = any(part.task.needs_causal for part in self.parts)  # type: ignore[misc]
        self.measure = self.first.measure  # type: ignore[misc]
        self.unit = self.first.unit  # type: ignore[misc]
        alike = len({(part.task.measure, part.task.unit) for part in self.parts}) == 1
        self.main = main or (MEAN if alike else "first")
        problems = list(self._unlike(alike))
        if problems:
            raise TaskError(problems)
        self.chances = self._chances(temperature)

    def _unlike(self, alike: bool) -> Iterator[Problem]:
        """Yield what keeps these tasks from being learnt together."""
        wanted, common = self.first.input_type(), None
        if self.sampling == "joint":
            common = self.first.train_batch(0, 1, 0).inputs
        for place, part in enumerate(self.parts[1:], 1):
            given, here = part.task.input_type(), f"tasks.of[{place}]"
            if (given, part.task.input_node()) != (wanted, self.first.input_node()):
                yield Problem(
                    here,
                    f"{part.name} reads other inputs than {self.parts[0].name}",
                    str(wanted),
                    str(given),
                    "choose tasks that read the same kind of input",
                )
            elif common is not None and not torch.equal(
                common, part.task.train_batch(0, 1, 0).inputs
            ):
                yield Problem(
                    here,
                    f"{part.name} has other samples than {self.parts[0].name}, so no input has both answers",
                    "tasks on the same data",
                    fix="set sampling to each, proportional, temperature or round_robin",
                )
        if self.main == MEAN and not alike:
            measures = ", ".join(dict.fromkeys(part.task.measure for part in self.parts))
            yield Problem(
                "tasks.main",
                "a mean over different measures means nothing",
                "first",
                measures,
                "set main to first",
            )
        if self.sampling in ("proportional", "temperature"):
            for place, part in enumerate(self.parts):
                if _size(part) is None:
                    yield Problem(
                        f"tasks.of[{place}].size",
                        f"{part.name} is generated without end, so there is no share of it to take",
                        "a number of samples",
                        "nothing",
                        "give it a size, or set sampling to round_robin",
                    )

    def _chances(self, temperature: float) -> tuple[float, ...]:
        """Return how likely each task's turn is, where one is drawn; else equal shares."""
        power = {"proportional": 1.0, "temperature": 1 / temperature}.get(self.sampling, 0.0)
        weights = [(_size(part) or 1.0) ** power for part in self.parts]
        return tuple(weight / sum(weights) for weight in weights)

    def turn(self, step: int, seed: int) -> tuple[int, ...]:
        """Return the places of the tasks that a step learns from."""
        count = len(self.parts)
        if self.sampling in ("joint", "each"):
            return tuple(range(count))
        if self.sampling == "round_robin":
            return (step % count,)
        return (int(stream("several", "turn", seed, step).choice(count, p=self.chances)),)

    def part_batch(self, place: int, step: int, batch: int, seed: int) -> Batch:
        """Return what one task has at a step where it has a whole batch, or where tasks share one, its share."""
        if self.sampling == "each":
            count = len(self.parts)
            batch = max(1, batch * (place + 1) // count - batch * place // count)
        return self.parts[place].task.train_batch(step, batch, seed)

    def train_batch(self, step: int, batch: int, seed: int) -> SeveralBatch:
        """Return what the tasks whose turn it is ask at a step; joint tasks have their inputs in common."""
        of = [(place, self.part_batch(place, step, batch, seed)) for place in self.turn(step, seed)]
        inputs = of[0][1].inputs
        if self.sampling == "joint":
            of = [(place, Batch(inputs, one.targets)) for place, one in of]
        return SeveralBatch(inputs, of[0][1].targets, tuple(of), step, seed)

    @property
    def length(self) -> int:
        """Positions that a model sees of the longest task's sample."""
        return max(part.task.length for part in self.parts)

    def input_node(self) -> dict[str, Any]:
        """Return the node that reads what all tasks read."""
        return self.first.input_node()

    def head_node(self) -> dict[str, Any]:
        """Return the first task's head."""
        return self.first.head_node()

    def input_type(self) -> TensorType:
        """Return the type of what all tasks read."""
        return self.first.input_type()

    def output_type(self) -> TensorType:
        """Return the type of the first task's logits, which are what the model gives."""
        return self.first.output_type()

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield the first task's batches of a split; each task is scored on its own ones by ``SeveralObjective``."""
        return self.first.evaluation(self.first.val_splits[0] if split == "val" else split)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the first task's loss (scalar); where it is another one's turn, the mean of the output.

        For what asks how much memory a step takes; the loss that is made small is ``SeveralObjective``'s.
        """
        if isinstance(batch, SeveralBatch):
            mine = dict(batch.of).get(0)
            return output.float().mean() if mine is None else self.first.loss(output, mine)
        return self.first.loss(output, batch)

    def score(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the first task's score."""
        return self.first.score(output, batch)

    def metric_name(self, split: str) -> str:
        """Return the name of the main metric: ``val_accuracy_mean``, or the first task's own ``val_accuracy``."""
        if self.main == MEAN:
            return super().metric_name(f"{split}_{MEAN}")
        theirs = self.first.val_splits if split == "val" else self.first.test_splits
        return self.first.metric_name(theirs[0])

    def baselines(self) -> dict[str, float]:
        """Return what methods without learning reach on each task, under its name."""
        return {
            f"{part.name}: {name}": value
            for part in self.parts
            for name, value in part.task.baselines().items()
        }

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return nothing: which settings suit depends on the first task."""
        return {}


def _size(part: Part) -> float | None:
    """Return the given size of a task, or the number of its training samples, None where they have no end."""
    return part.size if part.size is not None else part.task.train_size
