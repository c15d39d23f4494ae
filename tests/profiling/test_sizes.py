"""Inference by length and batch: what is measured of each size, and what is said of those that cannot be run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import RunError
from hybridlab.profiling.sizes import BySize, measure_sizes, usual_sizes
from hybridlab.tasks.registry import fit, task
from hybridlab.views.profile_sizes import OTHERS, sizes_info, sizes_plot

pytestmark = pytest.mark.usefixtures("only_new_garbage")
SMALL = "name: small\nwidth: 16\nnodes:\n  - {use: attention, heads: 2}\n"
LIMITED = "name: limited\nwidth: 16\nnodes:\n  - {use: mlp_mixer, length: 64, hidden: 8}\n"


def made(text: str, name: str, lengths: list[int], batches: list[int]) -> BySize:
    what = task(name)
    model = build(fit(loads(text), what), what.input_type(), seed=0).train()
    found = measure_sizes(model, what, lengths=lengths, batches=batches, rounds=3)
    assert model.training, "a model that trains goes on training"
    return found


@pytest.fixture(scope="module")
def attention() -> BySize:
    return made(SMALL, "mqar", [16, 256], [1, 4])


def test_each_size_has_its_time_memory_and_components(attention: BySize) -> None:
    rows = {(row["length"], row["batch"]): row for row in attention.sizes.to_pylist()}
    assert set(rows) == {(16, 1), (16, 4), (256, 1), (256, 4)}
    for (length, batch), row in rows.items():
        assert 0 < row["low_ms"] <= row["ms"] <= row["high_ms"]
        assert row["positions_per_s"] == pytest.approx(1e3 * batch * length / row["ms"])
        assert row["samples_per_s"] * length == pytest.approx(row["positions_per_s"])
    # Activations of a pass grow with the positions; what a pass of attention holds is no less than its input.
    assert rows[256, 4]["activation_bytes"] > 4 * rows[16, 4]["activation_bytes"]
    assert rows[256, 4]["activation_bytes"] >= 4 * 256 * 16 * 4
    parts = attention.components.to_pylist()
    assert {row["component"] for row in parts} >= {"attention", "token_embedding", "lm_head"}
    for size in rows:
        share = sum(row["share"] for row in parts if (row["length"], row["batch"]) == size)
        assert 0 < share <= 1 + 1e-9
    assert not attention.notes


def test_positions_that_a_component_has_no_weights_for_are_a_note() -> None:
    found = made(LIMITED, "mqar", [32, 128], [2])
    assert [row["length"] for row in found.sizes.to_pylist()] == [32]
    (note,) = found.notes
    assert note.startswith("length 128, batch 2 cannot be run: ") and len(note) < 220


def test_images_have_one_length() -> None:
    what = task("digits_image")
    lengths, batches = usual_sizes(what, 4)
    assert (lengths, batches) == ([what.length], [1, 4])
    found = made("name: i\nwidth: 16\nnodes:\n  - {use: mlp}\n", "digits_image", [7, 9], [2])
    assert [(row["length"], row["batch"]) for row in found.sizes.to_pylist()] == [(what.length, 2)]
    assert found.notes == ("the inputs of this task have one size, so only the batch changes",)


def test_usual_sizes_lie_around_the_tasks_own() -> None:
    what = task("parity")
    assert usual_sizes(what, 1) == ([what.length // 2, what.length, 2 * what.length], [1])


@pytest.mark.parametrize(
    ("lengths", "batches", "path"),
    [([0], [1], "lengths"), ([8], [1 << 20], "batches"), ([8], [], "lengths")],
)
def test_sizes_out_of_range_are_refused(lengths: list[int], batches: list[int], path: str) -> None:
    what = task("parity")
    model = build(fit(loads(SMALL), what), what.input_type(), seed=0)
    with pytest.raises(RunError) as raised:
        measure_sizes(model, what, lengths=lengths, batches=batches)
    assert raised.value.problems[0].path == path


def test_they_come_back_from_their_files(attention: BySize, tmp_path: Path) -> None:
    attention.save(tmp_path)
    assert pq.read_table(tmp_path / "size_sizes.parquet").equals(attention.sizes)
    assert pq.read_table(tmp_path / "size_components.parquet").equals(attention.components)
    assert pq.read_table(tmp_path / "size_notes.parquet").num_rows == 0
    assert attention.as_dict()["sizes"] == attention.sizes.to_pylist()


def test_the_picture_splits_each_pass_by_component(attention: BySize) -> None:
    info = sizes_info(attention.sizes.to_pandas(), attention.components.to_pandas())
    assert info.sizes == ((16, 1), (16, 4), (256, 1), (256, 4))
    shares = {
        (row["component"], row["length"], row["batch"]): row["share"]
        for row in attention.components.to_pylist()
    }
    for component, values in zip(info.components, info.part_ms, strict=True):
        for (length, batch), value, whole in zip(info.sizes, values, info.ms, strict=True):
            if component != OTHERS:
                assert value == pytest.approx(whole * shares.get((component, length, batch), 0.0))
    assert info.growth == pytest.approx(info.ms[3] / info.ms[1])
    figure = sizes_plot(info)
    assert figure.layout.title.text.startswith("16 times the length takes ")
    assert figure.layout.yaxis.title.text == "ms a pass"
    assert len(figure.data) == len(info.components) + 1


def test_repeats_are_one_series_and_small_ones_stand_together() -> None:
    sizes = pd.DataFrame(
        {"batch": [1], "length": [8], "ms": [10.0], "low_ms": [9.0], "high_ms": [12.0]}
    )
    paths = ["stage.0.moe", "stage.1.moe", *(f"part{place}" for place in range(8))]
    shares = [0.2, 0.3, *(0.01 * place for place in range(8))]
    parts = pd.DataFrame({"batch": 1, "length": 8, "component": paths, "ms": 1.0, "share": shares})
    info = sizes_info(sizes, parts)
    assert info.components == (
        "stage.*.moe",
        *(f"part{place}" for place in range(7, 1, -1)),
        OTHERS,
    )
    assert info.part_ms[0] == (pytest.approx(5.0),)
    assert info.part_ms[-1] == (pytest.approx(0.1),)


def test_a_single_size_is_drawn_too() -> None:
    found = made(SMALL, "parity", [8], [1])
    info = sizes_info(found.sizes.to_pandas(), found.components.to_pandas())
    assert info.growth is None
    assert "by length and batch" in sizes_plot(info).layout.title.text
