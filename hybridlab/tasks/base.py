"""What a task is: batches that are a pure function of (seed, step), a loss, a measure, and baselines to beat."""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.components.base import Params
from hybridlab.components.types import TensorKind, TensorType

IGNORED = -100
"""The target of a position that is not scored; where answers are numbers, that is NaN."""
Measure = Literal["accuracy", "bits_per_byte", "mean_abs_error"]


@dataclass(frozen=True)
class Batch:
    """Inputs and targets on one device.

    ``inputs`` are tokens (B, L) int64, series (B, L, C) or images (B, C, height, width) float32; ``targets`` are int64,
    (B,) for one answer a sample or (B, L) for one a position, with IGNORED where none is asked; or float32 (B,), NaN
    where none is asked, for a number a sample.
    """

    inputs: Tensor
    targets: Tensor

    @property
    def given(self) -> tuple[Tensor, ...]:
        """What a model is called with: the inputs."""
        return (self.inputs,)

    @property
    def mask(self) -> Tensor:
        """True where an answer is scored, with the shape of the targets."""
        if self.targets.is_floating_point():
            return ~self.targets.isnan()
        return self.targets != IGNORED

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; the copy to an accelerator does not wait."""
        if self.inputs.device == device:
            return self
        return Batch(
            self.inputs.to(device, non_blocking=True), self.targets.to(device, non_blocking=True)
        )

    def split(self, parts: int) -> list[Batch]:
        """Return the batch cut along its samples into at most ``parts`` pieces of nearly equal size."""
        pairs = zip(self.inputs.tensor_split(parts), self.targets.tensor_split(parts), strict=True)
        return [Batch(inputs, targets) for inputs, targets in pairs if len(inputs)]


class Task(ABC):
    """A data set or a generator, with what a model must read and answer.

    Subclasses nest their ``Params``. Nothing here keeps a position: a step's batch depends on (seed, step) alone, so a
    resumed run sees the data an unbroken one would have seen.
    """

    Params: ClassVar[type[Params]] = Params
    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    tests: ClassVar[str] = ""
    """What a model shows that does well, in a sentence for the data card."""
    measure: ClassVar[Measure] = "accuracy"
    unit: ClassVar[str] = ""
    """Unit of the measure; shares, and what says it in its name, have none."""
    needs_causal: ClassVar[bool] = False
    """True where the inputs hold the answers further on, as in language modelling."""
    run_together: ClassVar[bool] = False
    """True where tokens are written without spaces between them, as bytes of text are."""
    needs_own_head: ClassVar[bool] = False
    """True where the head is what makes it hard: another one would see what is to be answered."""

    def __init__(self, params: Any) -> None:
        """Keep the parameters; data is read or made when first asked for."""
        self.params = params

    @property
    @abstractmethod
    def length(self) -> int:
        """Positions L that a model sees of one training sample."""

    @abstractmethod
    def input_node(self) -> dict[str, Any]:
        """Return the node that reads this task's inputs, for architectures that bring none."""

    @abstractmethod
    def head_node(self) -> dict[str, Any]:
        """Return the node that gives this task's answers, for architectures that bring none."""

    @abstractmethod
    def input_type(self) -> TensorType:
        """Return the kind, shape and dtype of a batch's inputs."""

    @abstractmethod
    def output_type(self) -> TensorType:
        """Return the kind and shape of the logits that the loss takes: (B, N) or (B, L, N)."""

    @abstractmethod
    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return the training batch of a step, on the CPU: a pure function of its arguments and the parameters."""

    def ends(self, batch: Batch) -> Tensor | None:
        """Return how many positions of each sample are its own (B) int64, padding standing behind them.

        None where all samples are of one length.
        """
        return None

    def fixed_inputs(self) -> Tensor | None:
        """Return the inputs of all training samples (n, ...), where each comes again unchanged, epoch by epoch.

        None where samples are made anew, changed, or cut out anywhere, so that hardly one comes twice.
        """
        return None

    @abstractmethod
    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield the fixed batches of a split, on the CPU; splits are those of ``val_splits`` and ``test_splits``."""

    @abstractmethod
    def baselines(self) -> dict[str, float]:
        """Return the main metric that methods without learning reach, by their names."""

    @classmethod
    @abstractmethod
    def default_training(cls) -> dict[str, Any]:
        """Return the training settings that suit this task, by the names of ``TrainSpec``'s fields."""

    @property
    def train_size(self) -> int | None:
        """How many training samples there are, windows of a text side by side; None where each step draws its own."""
        return None

    def spelled(self, token: int) -> str:
        """Return a token of the inputs as people read it."""
        return str(token)

    def spelled_answer(self, answer: int) -> str:
        """Return an answer as people read it; the same as a token where answers are tokens."""
        return self.spelled(answer) if self.output_type().shape[1] == "L" else str(answer)

    @property
    def val_splits(self) -> tuple[str, ...]:
        """Splits scored while training; the first one is the metric that early stopping watches."""
        return ("val",)

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Splits scored once, at the end."""
        return ("test",)

    @property
    def metric(self) -> str:
        """Name of the main metric, for example ``test_accuracy``."""
        return self.metric_name(self.test_splits[0])

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the main metric is better."""
        return self.measure == "accuracy"

    def metric_name(self, split: str) -> str:
        """Return the name of the metric on a split: ``test_96`` gives ``test_accuracy_96``."""
        stem, _, rest = split.partition("_")
        return f"{stem}_{self.measure}_{rest}" if rest else f"{stem}_{self.measure}"

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross entropy in nats over the scored answers (scalar); ``output`` is (B, N) or (B, L, N)."""
        logits = output.reshape(-1, output.shape[-1])
        return F.cross_entropy(logits, batch.targets.reshape(-1), ignore_index=IGNORED)

    def score(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the sum of the measure over the scored answers (scalar, on the device).

        It counts correct answers, or bits for ``bits_per_byte``; over all answers it is the metric.
        """
        if self.measure == "accuracy":
            return output.argmax(-1).eq(batch.targets).sum()
        logits, targets = output.reshape(-1, output.shape[-1]).float(), batch.targets.reshape(-1)
        nats = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
        return nats / math.log(2.0)


_REGISTRY: dict[str, type[Task]] = {}
_T = TypeVar("_T", bound=type[Task])


def task(
    name: str, *, title: str, summary: str, source: str, tests: str = ""
) -> Callable[[_T], _T]:
    """Register a task under the name that settings use; ``source`` says where the data is from."""

    def register(cls: _T) -> _T:
        if name in _REGISTRY and _REGISTRY[name].__qualname__ != cls.__qualname__:
            raise ValueError(f"two tasks are called {name!r}")
        cls.name, cls.title, cls.summary, cls.source = name, title, summary, source
        cls.tests = tests
        _REGISTRY[name] = cls
        return cls

    return register


def registered() -> Mapping[str, type[Task]]:
    """Return the registry as it stands; ``registry.tasks()`` fills it first."""
    return _REGISTRY


def stream(name: str, split: str, seed: int, index: int) -> np.random.Generator:
    """Return the random numbers of one batch: Philox keyed by seed and (name, split), its counter set by the index.

    Counter-based (https://doi.org/10.1145/2063384.2063405), so any batch is made without making those before it.
    """
    key = np.array([seed % 2**64, zlib.crc32(f"{name}/{split}".encode())], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, index]))


def tokens_type() -> TensorType:
    """Return the type of token inputs: (B, L) int64."""
    return TensorType(TensorKind.TOKENS, ("B", "L"), "int64")


def logits_type(classes: int, *, per_position: bool) -> TensorType:
    """Return the type of logits over ``classes``: (B, L, N) per position, else (B, N)."""
    shape = ("B", "L", classes) if per_position else ("B", classes)
    return TensorType(TensorKind.LOGITS, shape)
