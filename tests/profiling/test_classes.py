"""Classes of input: what they are for each kind of task, and what is measured of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.profiling.classes import ByClass, input_classes, measure_classes
from hybridlab.tasks.registry import fit, task

pytestmark = pytest.mark.usefixtures("only_new_garbage")
ROUTED = """
name: routed
width: 16
nodes:
  - {use: mlp}
  - {use: early_exit, threshold: 0.0}
  - {use: moe, experts: 3, top_k: 1}
"""


def made(text: str, name: str, **params: int) -> tuple[GraphModel, ByClass]:
    what = task(name, **params)
    model = build(fit(loads(text), what), what.input_type(), seed=0)
    return model, measure_classes(model, what, samples=8, rounds=2)


@pytest.fixture(scope="module")
def digits() -> tuple[GraphModel, ByClass]:
    return made(ROUTED.replace("  - {use: early_exit, threshold: 0.0}\n", ""), "digits_sequence")


def test_labels_are_classes_where_there_are_few() -> None:
    found = input_classes(task("digits_sequence"), samples=5)
    assert [one.name for one in found] == [f"label {digit}" for digit in range(10)]
    assert all(one.samples == 5 for one in found)
    assert all((one.batch.targets == place).all() for place, one in enumerate(found))


def test_longer_inputs_are_a_class_of_their_own() -> None:
    found = input_classes(task("parity"), samples=4)
    lengths = {one.name: one.batch.inputs.shape[1] for one in found}
    assert lengths["split test_96"] == 96
    assert set(lengths.values()) == {32, 96}


def test_bytes_fall_into_thirds_by_variety() -> None:
    found = input_classes(task("python_bytes"), samples=4)
    assert [one.name.split(" (")[0] for one in found] == [
        f"{third} different tokens" for third in ("low", "middle", "high")
    ]
    means = [
        sum(len(set(sample.tolist())) for sample in one.batch.inputs) / one.samples for one in found
    ]
    assert means[0] < means[1] < means[2]


def test_inputs_that_are_all_alike_go_by_what_the_model_makes_of_them() -> None:
    what = task("mqar")
    assert [one.name for one in input_classes(what, samples=4)] == ["all"]
    found = input_classes(what, 4, lambda batch: torch.arange(len(batch.inputs)).float())
    assert [one.name.split(" (")[0] for one in found] == ["low loss", "middle loss", "high loss"]


def test_time_memory_and_routes_are_told_by_class(digits: tuple[GraphModel, ByClass]) -> None:
    model, found = digits
    assert model.training
    classes = found.classes.to_pylist()
    assert len(classes) == 10
    for row in classes:
        assert 0 < row["low_ms"] <= row["ms"] <= row["high_ms"]
        assert row["activation_bytes"] > 8 * 64 * 16 * 4
        assert 0 <= row["score"] <= 1
    shares: dict[str, float] = {}
    for row in found.components.to_pylist():
        shares[row["input_class"]] = shares.get(row["input_class"], 0.0) + row["share"]
    assert all(total == pytest.approx(1.0) for total in shares.values())
    loads_of = [row for row in found.reports.to_pylist() if row["name"] == "load"]
    assert len(loads_of) == 10 * 3
    for name in shares:
        mine = [row["value"] for row in loads_of if row["input_class"] == name]
        assert sum(mine) == pytest.approx(1.0)


def test_routes_are_those_of_each_class_alone(digits: tuple[GraphModel, ByClass]) -> None:
    model, found = digits
    one = input_classes(task("digits_sequence"), samples=8)[3]
    model.eval()
    with torch.no_grad():
        model(one.batch.inputs)
    model.train()
    (report,) = model.reports().values()
    told = [
        row["value"]
        for row in found.reports.to_pylist()
        if row["input_class"] == "label 3" and row["name"] == "load"
    ]
    assert told == pytest.approx(report["load"])


def test_a_model_sorts_inputs_that_are_all_alike_by_its_own_loss() -> None:
    what = task("mqar", pairs=2, vocab=8, length=8)
    model = build(
        fit(loads("name: x\nwidth: 8\nnodes:\n  - {use: mlp}\n"), what), what.input_type(), seed=0
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # a head of zeros would make every loss the same
        parameter.data.normal_(generator=generator)
    names = measure_classes(model, what, samples=4, rounds=1).classes["input_class"].to_pylist()
    assert [name.split(" (")[0] for name in names] == ["low loss", "middle loss", "high loss"]


def test_who_leaves_at_an_exit_is_told() -> None:
    _, found = made(ROUTED, "digits_sequence")
    left = {
        row["input_class"]: row["value"]
        for row in found.reports.to_pylist()
        if row["name"] == "left"
    }
    assert len(left) == 10
    assert set(left.values()) == {1.0}


def test_spread_tells_noise_apart(digits: tuple[GraphModel, ByClass], tmp_path: Path) -> None:
    _, found = digits
    spread = found.spread().to_pylist()
    assert [row["spread"] for row in spread] == sorted(
        (row["spread"] for row in spread), reverse=True
    )
    assert all(row["noise"] >= 0 and row["ms"] > 0 for row in spread)
    found.save(tmp_path)
    assert pq.read_table(tmp_path / "class_spread.parquet").equals(found.spread())
    assert len(list(tmp_path.iterdir())) == 4
