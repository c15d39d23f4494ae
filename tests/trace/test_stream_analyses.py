"""Every analysis on streams whose answers are known by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridlab.trace.access import contiguous, touched
from hybridlab.trace.costs import costs, intensity
from hybridlab.trace.exact import predict_module
from hybridlab.trace.fusion import fusable
from hybridlab.trace.handover import hand_overs
from hybridlab.trace.kept import kept_for_backward
from hybridlab.trace.live import at_peak, live
from hybridlab.trace.raster import raster
from hybridlab.trace.repeated import dead, repeated
from hybridlab.trace.reuse import FIRST, MEMORY, levels, reuse
from hybridlab.trace.stream import OpStream
from tests.profiling.profiles import Chain

ROW = 100 * 4
"""Bytes of one row of a hundred numbers."""


def traced(*functions: Callable[..., Tensor], shape: tuple[int, ...] = (10, 100)) -> OpStream:
    return predict_module(Chain(*functions), (torch.randn(*shape),), loss=None)


@pytest.fixture(scope="module")
def trained() -> OpStream:
    model = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 8))
    return predict_module(model, (torch.randn(16, 32),))


def test_costs_add_up_to_the_whole_by_any_column(trained: OpStream) -> None:
    for by in (("component",), ("phase",), ("op",), ("component", "phase", "op")):
        table = costs(trained, by=by)
        assert sum(table["flops"].to_pylist()) == trained.flops
        assert sum(table["operators"].to_pylist()) == len(trained)
        keys = list(zip(*(trained.strings(name) for name in by), strict=True))
        rows = list(zip(*(table[name].to_pylist() for name in by), strict=True))
        assert rows == list(dict.fromkeys(keys)), "not in order of first appearance"
    rows = {row["component"]: row for row in costs(trained.where(phase="forward")).to_pylist()}
    assert rows["0"]["flops"] == 2 * 16 * 32 * 64
    moved = rows["1"]["bytes_read"] + rows["1"]["bytes_written"]
    assert moved == 2 * 16 * 64 * 4 and rows["1"]["intensity"] == 0.0
    assert 0 < intensity(trained) < 100


def test_live_bytes_are_whole_at_every_moment_and_the_peak_is_explained(trained: OpStream) -> None:
    weights = 4 * (32 * 64 + 64 + 64 * 8 + 8)
    for by in ("category", "component"):
        found = live(trained, by)  # type: ignore[arg-type]
        assert (sum(found.parts.values()) == found.total_bytes).all()
        assert found.peak_bytes == trained.peak_bytes == found.total_bytes.max()
    parts = live(trained).parts
    assert parts["weights"].min() == parts["weights"].max() == weights
    assert parts["gradients"].max() == weights and parts["gradients"][-1] == 0
    table = at_peak(trained)
    assert sum(table["bytes"].to_pylist()) == trained.peak_bytes


def test_what_one_component_hands_to_another_is_counted_with_copies_and_layouts() -> None:
    stream = traced(torch.exp, lambda x: x.t().contiguous(), lambda x: x.to(torch.bfloat16))
    found = {(item.writer, item.reader): item for item in hand_overs(stream)}
    turned, narrowed = found["a", "b"], found["b", "c"]
    assert turned.read_bytes == turned.distinct_bytes == turned.copied_bytes == 10 * ROW
    assert turned.relaid_bytes == 10 * ROW and turned.cast_bytes == 0
    assert narrowed.cast_bytes == 10 * ROW and narrowed.relaid_bytes == 0
    twice = traced(torch.exp, lambda x: x.sin() + x.cos() * x)
    (again,) = (item for item in hand_overs(twice) if item.reader == "b" and item.writer == "a")
    assert (again.reads, again.read_bytes, again.distinct_bytes) == (3, 30 * ROW, 10 * ROW)


def test_reuse_distances_are_the_distinct_bytes_in_between() -> None:
    def far(x: Tensor) -> Tensor:
        first, _, _ = x.exp(), x.sin(), x.cos()
        return first * 2

    found = reuse(traced(far), caches=(("L1", 20 * ROW), ("L2", 40 * ROW)))
    again = [item for item in found if not item.write and item.distance_bytes is not None]
    # x is read by exp, sin, cos: in between lie x itself and one result; the first result lies three away.
    assert [item.distance_bytes for item in again] == [20 * ROW, 20 * ROW, 40 * ROW]
    assert [item.level for item in again] == ["L1", "L1", "L2"]
    assert found[0].level == FIRST
    tight = reuse(traced(far), caches=(("L1", ROW),))
    assert {item.level for item in tight} == {FIRST, MEMORY}
    assert sum(levels(found)["a"].values()) == sum(item.bytes for item in found)


def test_reuse_agrees_with_counting_one_by_one(trained: OpStream) -> None:
    seen: list[tuple[int, int]] = []
    for item in reuse(trained):
        places = [place for place, (storage, _) in enumerate(seen) if storage == item.storage]
        if not places:
            assert item.distance_bytes is None
        else:
            latest = dict(seen[places[-1] + 1 :])
            own = max(seen[places[-1]][1], item.bytes)
            assert item.distance_bytes == sum(latest.values()) + own
        seen.append((item.storage, item.bytes))


def test_the_raster_has_every_byte_in_its_row_time_and_kind() -> None:
    stream = traced(torch.exp, lambda x: x.t().contiguous())
    found = raster(stream, bins=2)
    assert found.rows == ("a", "b") and found.unit == "operator"
    assert found.bytes[0].tolist() == [[10 * ROW, 0, 10 * ROW, 0], [0, 0, 0, 0]]
    assert found.bytes[1].tolist() == [[0, 0, 0, 0], [0, 10 * ROW, 10 * ROW, 0]]
    by_storage = raster(stream, "storage", bins=2)
    assert by_storage.bytes.sum() == found.bytes.sum() and len(by_storage.rows) == 3


def test_rows_of_the_raster_say_what_each_storage_holds(trained: OpStream) -> None:
    found = raster(trained, "storage", bins=4)
    assert len(set(found.rows)) == len(found.rows) == len(found.numbers)
    named = trained.storages.to_pylist()
    for number, title in zip(found.numbers, found.rows, strict=True):
        row = named[number]
        assert title.startswith(row["name"] or f"{row['component']}: ")
        assert row["category"] in title
    assert "0.weight, weights" in found.rows
    assert "1: gelu 16×64, kept for backward" in found.rows
    assert any(title.endswith(", gradients") and " 64×32" in title for title in found.rows)
    few = raster(trained, "storage", bins=4, most_rows=3)
    most = sorted(found.bytes.sum(axis=(1, 2)).tolist())[-3:]
    assert sorted(few.bytes.sum(axis=(1, 2)).tolist()) == most and set(few.rows) <= set(found.rows)


def test_what_is_kept_for_backward_is_counted_once(trained: OpStream) -> None:
    rows = {row["component"]: row["bytes"] for row in kept_for_backward(trained).to_pylist()}
    assert rows["0"] == 16 * 64 * 4  # what GELU reads
    assert rows["1"] == 16 * 64 * 4  # what the second layer reads
    in_rows = {row["component"]: row["saved_bytes"] for row in costs(trained).to_pylist()}
    assert in_rows["1"] == 16 * 64 * 4 and in_rows["2"] >= 16 * 64 * 4


def test_repeated_and_dead_work_is_found_and_nothing_else() -> None:
    def wasteful(x: Tensor) -> Tensor:
        x.sin()
        return x.exp() + x.exp() * 2 + torch.rand_like(x) + torch.rand_like(x)

    stream = traced(wasteful)
    (again,) = repeated(stream)
    assert (again.op, again.bytes_moved, again.first_row) == ("exp", 20 * ROW, 1)
    # The model's own result is read by nobody either, as there is no loss.
    assert [item.op for item in dead(stream)] == ["sin", "add"]
    clean = traced(lambda x: x.exp() + x.sin())
    assert not repeated(clean) and not [item for item in dead(clean) if item.op != "add"]


def test_work_on_changed_values_is_not_repeated() -> None:
    def changing(x: Tensor) -> Tensor:
        y = x.clone()
        first = y.exp()
        y.add_(1.0)
        return first + y.exp()

    assert not repeated(traced(changing))


def test_fusing_saves_what_the_neighbours_read_again_and_write_for_each_other() -> None:
    (chain,) = fusable(traced(lambda x: (x.sin() + x).exp(), lambda x: x @ x.t()))
    assert chain.ops == ("sin", "add", "exp") and chain.component == "a"
    # Moved: 2 + 3 + 2 tensors; one kernel reads x and writes the result.
    assert chain.moved_bytes == 7 * 10 * ROW and chain.saved_bytes == 5 * 10 * ROW


@pytest.mark.parametrize(
    ("shape", "strides", "whole", "distinct"),
    [
        ((4, 6), (6, 1), True, 96),
        ((6, 4), (1, 6), False, 96),
        ((4, 1, 6), (6, 99, 1), True, 96),
        ((4, 6), (0, 1), False, 24),
        ((4, 3), (6, 2), False, 48),
    ],
)
def test_patterns_are_told_apart(shape: Any, strides: Any, whole: bool, distinct: int) -> None:
    assert contiguous(shape, strides) is whole
    assert touched(4 * int(np.prod(shape)), shape, strides) == distinct
