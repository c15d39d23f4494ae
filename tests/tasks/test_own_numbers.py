"""Files of one's own with a number in each row: guessed, corrected, told in their unit, learnt, and never leaking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import TaskError
from hybridlab.tasks.data_card import data_card
from hybridlab.tasks.own import keeping
from hybridlab.tasks.registry import catalogue, fit, task
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train
from tests.tasks.test_own_data import npz, parquet, table

RNG = np.random.default_rng(1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("HYBRIDLAB_HOME", str(folder))
    return folder


def columns(rows: int = 200) -> dict[str, Any]:
    """Return the measures of fish, whose weight follows from them, and their kind."""
    length, height = RNG.uniform(10, 40, rows).round(3), RNG.uniform(2, 9, rows).round(3)
    weight = (3 * length + 20 * height + RNG.normal(size=rows)).round(3)
    kind = [("pike", "carp")[i % 2] for i in range(rows)]
    return {"length": length, "height": height, "weight": weight, "kind": kind}


@pytest.mark.parametrize(
    ("answer", "answers"),
    [
        (RNG.normal(size=60).round(2), "numbers"),  # not whole
        (np.arange(60) * 7, "numbers"),  # whole, and none comes again
        (np.arange(60) % 5, "classes"),
        ([0.5, 1.5] * 30, "numbers"),
        (["yes", "no"] * 30, "classes"),
    ],
)
def test_whether_answers_are_numbers_is_guessed_alike_from_every_kind_of_file(
    answer: Any, answers: str
) -> None:
    x = RNG.normal(size=(60, 2)).round(3)
    given = {"a": x[:, 0], "b": x[:, 1], "target": answer}
    found = [
        keeping.look(table(**given), "x.csv"),
        keeping.look(parquet(**given), "x.parquet"),
        keeping.look(npz(X=x, target=np.array(answer)), "x.npz"),
    ]
    assert [(one.schema.label, one.schema.answers) for one in found] == [("target", answers)] * 3


def test_a_person_says_that_numbers_are_meant_and_in_which_unit() -> None:
    content = table(**columns())
    assert keeping.look(content, "fish.csv").schema.label == "kind"
    changes = {"label": "weight", "inputs": ["length", "height"], "unit": "g"}
    made = keeping.add(content, "fish.csv", changes)
    assert (made.task, made.classes, made.schema.answers) == ("own_numbers", (), "numbers")
    assert keeping.find(made.id) == made
    card = data_card(task("own_numbers", data=made.id))
    assert (card.metric, card.unit) == ("test_mean_abs_error", "g")
    assert card.examples[0].answer.endswith(" g") and list(card.baselines)[-1] == "plane"
    assert card.baselines["plane"] < 1.5 < card.baselines["training median"]
    for wrong in ("own_data", "own_text"):
        with pytest.raises(TaskError, match="own_numbers"):
            task(wrong, data=made.id).train_batch(0, 1, 0)
    kinds = keeping.add(content, "fish.csv")
    with pytest.raises(TaskError, match="own_data"):
        task("own_numbers", data=kinds.id).input_node()


def test_whole_numbers_may_be_classes_or_numbers_as_a_person_likes() -> None:
    content = npz(X=RNG.normal(size=(60, 2)), y=np.arange(60) % 12)
    made = [keeping.add(content, "x.npz", {"answers": a}) for a in ("classes", "numbers")]
    held = [keeping.arrays(one.id)["labels"] for one in made]
    assert [one.task for one in made] == ["own_data", "own_numbers"]
    assert [array.dtype.kind for array in held] == ["i", "f"] and (held[0] == held[1]).all()


def test_classes_keep_the_id_they_had_before_there_were_numbers() -> None:
    rows = "\n".join(["a,y", *(f"{i / 3:.3f},{'uv'[i % 2]}" for i in range(40))])
    assert keeping.add(rows.encode(), "x.csv").id == "d861b7f7557361831"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.ones(40) * 1.5, "the same number everywhere"),
        (1e9 + np.arange(40) * 0.01, "does not fit into numbers of 32 bits"),
        (np.arange(40) * 1e300, "does not fit into numbers of 32 bits"),
        (np.full(40, np.nan), "too few complete samples"),
        (np.array(["a", "b"] * 20), "'y' holds text"),
    ],
)
def test_what_cannot_be_learnt_as_numbers_is_a_sentence(answer: Any, words: str) -> None:
    content = npz(X=RNG.normal(size=(40, 3)), y=answer)
    with pytest.raises(TaskError) as caught:
        keeping.add(content, "x.npz", {"answers": "numbers", "label": "y", "inputs": ["X"]})
    assert words in str(caught.value)


def test_a_missing_or_endless_answer_leaves_its_row_out() -> None:
    y = RNG.normal(size=60)
    y[[3, 17]] = np.nan, np.inf
    made = keeping.add(npz(X=RNG.normal(size=(60, 3)), y=y), "x.npz")
    assert sum(made.sizes.values()) == 58 and "2 samples" in made.notes[0]


def test_equal_rows_never_cross_splits_and_every_split_has_low_and_high_numbers() -> None:
    x = RNG.integers(0, 6, (900, 3)).astype(float)  # 216 different rows
    made = keeping.add(npz(X=x, y=x.sum(1) + RNG.normal(size=900)), "x.npz")
    arrays = keeping.arrays(made.id)
    parts = [arrays["split"] == number for number in range(3)]
    seen = [{row.tobytes() for row in arrays["inputs"][part]} for part in parts]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    means = [float(arrays["labels"][part].mean()) for part in parts]
    assert max(means) - min(means) < 0.5 * float(arrays["labels"].std())
    assert [part.mean() for part in parts] == pytest.approx([0.7, 0.1, 0.2], abs=0.06)


def test_scale_is_that_of_the_training_answers_alone() -> None:
    made = keeping.add(table(**columns()), "fish.csv", {"label": "weight", "inputs": ["length"]})
    chosen, held = task("own_numbers", data=made.id), keeping.arrays(made.id)
    answers = held["labels"][held["split"] == 0].astype(np.float64)
    assert chosen.scale() == pytest.approx((answers.mean(), answers.std()))
    (batch,) = chosen.evaluation("test")
    np.testing.assert_array_equal(batch.targets, held["labels"][held["split"] == 2])


def test_the_plane_is_that_of_least_squares(home: Path) -> None:
    chosen = task("own_numbers")
    assert chosen.unit == "points" and chosen.train_size == 310
    held = keeping.unpacked(chosen_blob())
    parts = [held["split"] == number for number in (0, 2)]
    rows = [np.c_[held["inputs"][part][:, :, 0], np.ones(part.sum())] for part in parts]
    plane = np.linalg.solve(rows[0].T @ rows[0], rows[0].T @ held["labels"][parts[0]])
    error = np.abs(rows[1] @ plane - held["labels"][parts[1]]).mean()
    assert chosen.baselines()["plane"] == pytest.approx(error, rel=1e-4)
    entry = next(one for one in catalogue() if one["name"] == "own_numbers")
    assert entry["unit"] == "points" and entry["higher_is_better"] is False
    assert not home.exists()


def chosen_blob() -> bytes:
    from hybridlab.tasks.own.examples import patients

    return patients()


@pytest.mark.parametrize("shape", [(60, 12), (60, 12, 3), (60, 3, 12, 8)])
def test_series_and_images_with_a_number_each_fit_a_network(shape: tuple[int, ...]) -> None:
    made = keeping.add(npz(X=RNG.normal(size=shape), y=RNG.normal(size=60)), "x.npz")
    chosen = task("own_numbers", data=made.id)
    batch = chosen.train_batch(0, 4, 0)
    fitted = fit(loads("name: x\nwidth: 8\nnodes:\n  - {use: attention, heads: 2}\n"), chosen)
    output = build(fitted, chosen.input_type(), seed=0)(batch.inputs)
    assert output.shape == (4, 1) and chosen.loss(output, batch).isfinite()


def test_a_file_of_numbers_is_learnt_to_a_fraction_of_what_the_median_reaches(
    tmp_path: Path,
) -> None:
    changes = {"label": "weight", "inputs": ["length", "height"], "unit": "g"}
    made = keeping.add(table(**columns(400)), "fish.csv", changes)
    settings = {"task": "own_numbers", "task_params": {"data": made.id}, "device": "cpu"}
    what, spec = prepare({**settings, "steps": 150, "eval_every": 50, "seed": 1})
    text = "name: tiny\nwidth: 16\nnodes:\n  - {use: attention, heads: 2, causal: false}\n  - {use: mlp}\n"
    model = build(fit(loads(text), what), what.input_type(), seed=1)
    result = train(model, what, spec, folder=tmp_path / "run")
    assert result.metrics["test_mean_abs_error"] < 0.3 * what.baselines()["training median"]
    assert torch.isfinite(torch.tensor(result.best["value"]))
