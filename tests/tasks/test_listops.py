"""ListOps: every answer is judged by a second reader of expressions, and trees grow as Long Range Arena's."""

from __future__ import annotations

import random
import re
import statistics
from collections import Counter

import pytest

from hybridlab.errors import TaskError
from hybridlab.tasks.base import Batch
from hybridlab.tasks.listops import NAMES, evaluate
from hybridlab.tasks.registry import task


def written(batch: Batch) -> list[str]:
    """Write expressions as text, without their padding."""
    return [" ".join(NAMES[token] for token in row).rstrip() for row in batch.inputs.tolist()]


def worked_out(text: str) -> int:
    """Replace innermost lists by what they come to, until one digit is left."""
    while not text.isdigit():
        text, count = re.subn(r"\[(MIN|MAX|MED|SM)((?: \d)+) \]", _one, text)
        assert count, f"not an expression: {text}"
    return int(text)


def _one(found: re.Match[str]) -> str:
    digits = [int(digit) for digit in found[2].split()]
    functions = {"MIN": min, "MAX": max, "MED": statistics.median, "SM": lambda x: sum(x) % 10}
    return str(int(functions[found[1]](digits)))


def nesting(text: str) -> int:
    level = most = 0
    for token in text.split():
        level += token.startswith("[") - (token == "]")
        most = max(most, level)
    return most


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"depth": 2, "arguments": 2, "min_length": 4, "length": 4},
        {"depth": 6, "arguments": 3, "min_length": 30, "length": 100},
    ],
)
def test_answers_are_what_another_reader_works_out(params: dict[str, int]) -> None:
    made = task("listops", **params)
    batch = made.train_batch(0, 64, 1)
    for text, answer in zip(written(batch), batch.targets.tolist(), strict=True):
        assert worked_out(text) == answer
        assert made.params.min_length <= len(text.split()) <= made.params.length
        assert nesting(text) < made.params.depth
        assert text.startswith("[") and nesting(text.rsplit(" ", 1)[0]) == nesting(text)


def test_the_median_of_an_even_count_is_rounded_down() -> None:
    tokens = [NAMES.index(name) for name in ["[MED", "3", "4", "1", "8", "]"]]
    assert evaluate(tokens) == 3


@pytest.mark.parametrize("text", ["[MAX 1 2", "1 2", "[MAX ]", "]", "[MAX 1 ] 2", "[MAX 1 ]  "])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="list"):
        evaluate([NAMES.index(name or " ") for name in text.split(" ")])


def test_trees_are_distributed_as_the_published_generator_makes_them() -> None:
    """Draw trees by the paper's recursion, keep those within the bounds, and compare what both kinds hold."""
    rng = random.Random(3)

    def grow(depth: int) -> list[str]:
        if not (depth < 4 and rng.random() <= 0.25):
            return [str(rng.randrange(10))]
        parts = [grow(depth + 1) for _ in range(rng.randint(2, 5))]
        operator = rng.choice(["[MIN", "[MAX", "[MED", "[SM"])
        return [operator, *(token for part in parts for token in part), "]"]

    wanted: list[list[str]] = []
    while len(wanted) < 4_000:
        tree = grow(1)
        if 8 <= len(tree) <= 48:
            wanted.append(tree)
    made = task("listops")
    found = [text.split() for step in range(16) for text in written(made.train_batch(step, 250, 0))]
    for measure in (
        len,
        lambda tree: nesting(" ".join(tree)),
        lambda tree: tree.count("[MED"),
        lambda tree: sum(token.isdigit() for token in tree),
    ):
        left, right = ([measure(tree) for tree in trees] for trees in (wanted, found))  # type: ignore[operator]
        error = 4 * statistics.pstdev(left) * (2 / 4_000) ** 0.5
        assert statistics.mean(left) == pytest.approx(statistics.mean(right), abs=error)


def test_no_expression_is_in_two_splits() -> None:
    made = task("listops", depth=2, arguments=2, min_length=4, length=4)  # 400 different ones
    train = {text for step in range(40) for text in written(made.train_batch(step, 100, step))}
    val, test = (
        {t for b in made.evaluation(split) for t in written(b)} for split in ("val", "test")
    )
    assert not train & val and not train & test and not val & test
    assert len(train | val | test) == 400
    assert len(train) > 6 * len(test) > 0


def test_baselines_are_what_counting_gives() -> None:
    made = task("listops")
    batches = list(made.evaluation("test"))
    texts = [text for batch in batches for text in written(batch)]
    answers = [answer for batch in batches for answer in batch.targets.tolist()]
    counts = Counter(answers)
    found = made.baselines()
    assert any(found["majority class"] == counts[digit] / len(answers) for digit in counts)
    assert found["majority class"] > found["chance"]
    right = 0
    for text, answer in zip(texts, answers, strict=True):
        flat = text
        while (inner := re.sub(r"(?<=. )\[\w+[^][]*\] ?", "", flat)) != flat:
            flat = inner
        right += bool(re.search(r"\d", flat)) and worked_out(flat) == answer
    assert found["outermost digits"] == pytest.approx(right / len(answers), abs=0.03)


def test_bounds_that_no_tree_meets_are_a_sentence() -> None:
    with pytest.raises(TaskError, match="at most 7 tokens"):
        task("listops", depth=2, arguments=5, min_length=8)
    with pytest.raises(TaskError, match="over the length 8"):
        task("listops", min_length=9, length=8)
    rare = task("listops", depth=20, arguments=2, min_length=400, length=400)
    with pytest.raises(TaskError, match="lower min_length"):
        rare.train_batch(0, 1, 0)


def test_expressions_of_long_range_arena_can_be_made() -> None:
    made = task("listops", depth=10, arguments=10, min_length=501, length=1999)
    batch = made.train_batch(0, 2, 0)
    assert [worked_out(text) for text in written(batch)] == batch.targets.tolist()
