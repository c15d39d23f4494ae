"""ListOps of Long Range Arena: work out nested minimum, maximum, median and sum of digits, written as a sequence."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from hybridlab.components.base import Params, field
from hybridlab.components.types import TensorType
from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.base import Batch, Task, logits_type, stream, task, tokens_type

NAMES = (" ", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
"""How tokens are written: the padding behind an expression, the digits, the operators, and what closes a list."""
PADDING, FIRST_DIGIT, FIRST_OPERATOR, CLOSE = 0, 1, 11, 15
DIGITS, OPERATORS = 10, 4
_NESTED = 0.25
"""How often an argument is a list again, where the depth allows it."""
_SHARES = {"train": (0, 80), "val": (80, 90), "test": (90, 100)}
_EVALUATION_BATCH = 128
_EVALUATION_BATCHES = {"val": 2, "test": 8}
_TRIES = 20_000


class ListOpsParams(Params):
    """What can be set about ListOps; Long Range Arena takes depth 10, 10 arguments and 500 to 2,000 tokens."""

    depth: int = field(
        4, ge=2, le=20, help="Levels of nesting, the digits of the innermost list included."
    )
    arguments: int = field(5, ge=2, le=20, help="Most arguments of an operator; the least are two.")
    min_length: int = field(
        8, ge=4, le=16_000, unit="tokens", help="Tokens of the shortest expression."
    )
    length: int = field(
        48, ge=4, le=16_384, unit="tokens", help="Tokens of the longest expression."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_length > self.length:
            raise ValueError(
                f"the shortest expression of {self.min_length} tokens is over the length {self.length}"
            )
        longest = 1
        for _ in range(self.depth - 1):
            longest = 2 + self.arguments * longest
        if longest < self.min_length:
            raise ValueError(
                f"depth {self.depth} and {self.arguments} arguments give at most {longest} tokens"
            )
        return self


@task(
    "listops",
    title="ListOps",
    summary="Work out nested minimum, maximum, median and sum modulo ten of digits, such as [MAX 2 [MIN 4 7 ] 0 ].",
    source="Generated, as in Long Range Arena: https://arxiv.org/abs/2011.04006 (the task of https://arxiv.org/abs/1804.06028)",
    tests="Whether a model follows a nested structure over a length, and computes along it.",
)
class ListOps(Task):
    """One expression a sequence, with padding behind it; the digit it comes to is the answer.

    Every expression belongs to one split by a digest of its tokens, so none that is tested was ever trained on. Trees
    grow as the paper's: an argument is a list again with probability 1/4, operators and digits are drawn evenly, and
    those whose length is out of bounds are drawn again. The defaults are far smaller than the paper's.
    """

    Params = ListOpsParams

    @property
    def length(self) -> int:
        """Tokens a sequence, padding included."""
        length: int = self.params.length
        return length

    def input_node(self) -> dict[str, Any]:
        """Return an embedding of the tokens."""
        return {"use": "token_embedding", "vocab": len(NAMES)}

    def head_node(self) -> dict[str, Any]:
        """Return a classifier of ten digits."""
        return {"use": "classifier", "classes": DIGITS}

    def input_type(self) -> TensorType:
        """Return tokens (B, L)."""
        return tokens_type()

    def output_type(self) -> TensorType:
        """Return logits (B, 10)."""
        return logits_type(DIGITS, per_position=False)

    def train_batch(self, step: int, batch: int, seed: int) -> Batch:
        """Return fresh expressions."""
        return _batch(self.params, stream(self.name, "train", seed, step), batch, "train")

    def ends(self, batch: Batch) -> Tensor | None:
        """Return the tokens of each expression, those of the padding left out."""
        return batch.inputs.ne(PADDING).sum(1)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield fixed expressions: 256 for validation, 1,024 for test."""
        yield from _evaluation(self.params, split)

    def baselines(self) -> dict[str, float]:
        """Return test accuracies without learning.

        Those of the most common answer, of guessing, and of the outermost operator applied to its own digits alone.
        """
        return dict(_baselines(self.params))

    def spelled(self, token: int) -> str:
        """Return a token as it is written."""
        name: str = NAMES[token]
        return name

    @classmethod
    def default_training(cls) -> dict[str, Any]:
        """Return settings under which a model passes the baselines in minutes."""
        return {
            "steps": 1500,
            "batch": 64,
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "weight_decay": 0.01,
            "eval_every": 150,
            "checkpoint_every": 250,
            "target": 0.99,
        }


def evaluate(tokens: list[int]) -> int:
    """Return the digit that an expression comes to; the median of an even count is rounded down.

    Raises:
        ValueError: the tokens are not one whole expression.
    """
    open_lists: list[list[int]] = []
    result: int | None = None
    for token in tokens:
        if result is not None or not PADDING < token <= CLOSE:
            raise ValueError("an expression ends where its outermost list closes")
        if FIRST_OPERATOR <= token < CLOSE:
            open_lists.append([token])
            continue
        value = token - FIRST_DIGIT
        if token == CLOSE:
            if not open_lists or len(open_lists[-1]) < 2:
                raise ValueError("a list that closes has an operator and arguments")
            value = _applied(*open_lists.pop())
        if open_lists:
            open_lists[-1].append(value)
        else:
            result = value
    if result is None:
        raise ValueError("a list is left open")
    return result


def _applied(operator: int, *digits: int) -> int:
    match NAMES[operator]:
        case "[MIN":
            return min(digits)
        case "[MAX":
            return max(digits)
        case "[SM":
            return sum(digits) % DIGITS
    ordered, middle = sorted(digits), len(digits) // 2
    return ordered[middle] if len(digits) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def _tree(draw: Iterator[float], depth: int, arguments: int, longest: int) -> list[int]:
    """Return the tokens of one list, no more than ``longest + 1`` where it gets too long.

    It begins with an operator: a lone digit is too short for any bounds.
    """
    tokens, left = [_operator(draw)], [_count(draw, arguments)]
    while left and len(tokens) <= longest:
        if not left[-1]:
            tokens.append(CLOSE)
            left.pop()
            continue
        left[-1] -= 1
        if len(left) < depth - 1 and next(draw) <= _NESTED:
            tokens.append(_operator(draw))
            left.append(_count(draw, arguments))
        else:
            tokens.append(FIRST_DIGIT + int(next(draw) * DIGITS))
    return tokens


def _operator(draw: Iterator[float]) -> int:
    return FIRST_OPERATOR + int(next(draw) * OPERATORS)


def _count(draw: Iterator[float], arguments: int) -> int:
    return 2 + int(next(draw) * (arguments - 1))


def _numbers(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(1024).tolist()


def _expressions(
    params: ListOpsParams, rng: np.random.Generator, split: str
) -> Iterator[list[int]]:
    """Yield expressions of a split without end.

    Raises:
        TaskError: hardly any tree is between the shortest and the longest length.
    """
    first, end = _SHARES[split]
    draw, tries = _numbers(rng), 0
    while True:
        tokens = _tree(draw, params.depth, params.arguments, params.length)
        tries += 1
        fits = params.min_length <= len(tokens) <= params.length
        if fits and first <= zlib.crc32(bytes(tokens)) % 100 < end:
            tries = 0
            yield tokens
        if tries >= _TRIES:
            raise TaskError(
                Problem(
                    "task_params.min_length",
                    f"of {_TRIES:,} expressions none was between {params.min_length} and {params.length} tokens long",
                    "bounds that trees of this depth and these arguments often meet",
                    fix="lower min_length, or raise length, depth or arguments",
                )
            )


def _batch(params: ListOpsParams, rng: np.random.Generator, batch: int, split: str) -> Batch:
    inputs = np.full((batch, params.length), PADDING, dtype=np.int64)
    answers = np.empty(batch, dtype=np.int64)
    for row, tokens in zip(range(batch), _expressions(params, rng, split)):  # noqa: B905 - the second never ends
        inputs[row, : len(tokens)], answers[row] = tokens, evaluate(tokens)
    return Batch(torch.from_numpy(inputs), torch.from_numpy(answers))


@functools.lru_cache(maxsize=8)
def _evaluation(params: ListOpsParams, split: str) -> tuple[Batch, ...]:
    return tuple(
        _batch(params, stream("listops", split, 0, index), _EVALUATION_BATCH, split)
        for index in range(_EVALUATION_BATCHES[split])
    )


@functools.lru_cache(maxsize=8)
def _baselines(params: ListOpsParams) -> dict[str, float]:
    train = _batch(params, stream("listops", "counted", 0, 0), 1024, "train").targets
    common = int(train.bincount(minlength=DIGITS).argmax())
    test = _evaluation(params, "test")
    answers = np.concatenate([batch.targets.numpy() for batch in test])
    shallow = [_outermost(row, common) for batch in test for row in batch.inputs.numpy()]
    return {
        "outermost digits": float((np.array(shallow) == answers).mean()),
        "majority class": float((answers == common).mean()),
        "chance": 1 / DIGITS,
    }


def _outermost(tokens: NDArray[np.int64], otherwise: int) -> int:
    """Return what the outermost operator makes of the digits that stand in its own list."""
    level, digits = 0, []
    for token in tokens.tolist():
        level += (FIRST_OPERATOR <= token < CLOSE) - (token == CLOSE)
        if level == 1 and FIRST_DIGIT <= token < FIRST_OPERATOR:
            digits.append(token - FIRST_DIGIT)
    return _applied(int(tokens[0]), *digits) if digits else otherwise
