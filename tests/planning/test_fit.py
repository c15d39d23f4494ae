"""What fits a memory: what was carried on to a size is what a trace of that size says."""

from __future__ import annotations

import functools

import pytest

from hybridlab.architecture.document import loads
from hybridlab.errors import SpecError
from hybridlab.planning.fit import Axis, Fit, fitting
from hybridlab.planning.planner import Planner, planner
from hybridlab.planning.record import Budget
from hybridlab.workflows.plan import fit_training, memory_of
from tests.planning.steps import text

MIB = 2**20
ARCHITECTURE = loads(text("{use: attention, heads: 4}, {use: mlp}"))


@functools.cache
def at(axis: Axis, size: int) -> Planner:
    batch, length = (size, 32) if axis == "batch" else (4, size)
    return planner(ARCHITECTURE, batch=batch, length=length)


def found(axis: Axis, limit_bytes: int, room_bytes: int, start: int = 4) -> Fit:
    return fitting(
        functools.partial(at, axis), limit_bytes, axis=axis, start=start, room_bytes=room_bytes
    )


def test_the_largest_size_fits_and_the_next_does_not() -> None:
    axis: Axis = "batch"
    limit = 4 * MIB
    fit = found(axis, limit, 64 * MIB)
    assert fit.plain is not None and fit.planned is not None
    assert fit.plain.traced and fit.planned.size > fit.plain.size
    size = fit.plain.size
    assert at(axis, size).plain.peak_bytes == fit.plain.peak_bytes <= limit
    assert at(axis, size + 1).plain.peak_bytes > limit
    best = at(axis, fit.planned.size).best(Budget(peak_bytes=limit))
    assert best.predicted.peak_bytes <= limit and fit.planned.again > 0
    sizes = [one.size for one in fit.beyond]
    assert sizes == sorted(sizes) and all(size < one < fit.planned.size for one in sizes)
    for one in fit.beyond:
        best = at(axis, one.size).best(Budget(peak_bytes=limit))
        assert one.traced and one.step_ms == pytest.approx(best.predicted.step_ms, rel=1e-9)


@pytest.mark.parametrize("axis", ["batch", "length"])
def test_what_may_not_be_traced_is_carried_on_and_comes_out(axis: Axis) -> None:
    limit = 24 * MIB
    fit = found(axis, limit, limit // 4)
    assert fit.plain is not None and not fit.plain.traced
    real = at(axis, fit.plain.size).plain.peak_bytes
    assert real == pytest.approx(fit.plain.peak_bytes, rel=0.01)
    assert real == pytest.approx(limit, rel=0.02)


def test_what_does_not_fit_at_all_says_what_the_least_is() -> None:
    fit = found("batch", 1024, 64 * MIB)
    assert fit.plain is None and fit.planned is None and not fit.beyond
    assert fit.least_bytes == at("batch", 1).curve.point(0).peak_bytes
    with pytest.raises(SpecError, match="no amount of memory"):
        found("batch", 0, MIB)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("24GiB", 24 * 2**30),
        ("RTX 4090", 24 * 10**9),
        ("NVIDIA A100 SXM 80 GB", 80 * 10**9),
        ("nvidia a100 40 gb", 40 * 10**9),
    ],
)
def test_a_memory_is_an_amount_or_a_card(written: str, size: int) -> None:
    assert memory_of(written) == size


def test_an_unknown_card_is_told_with_those_that_are_known() -> None:
    with pytest.raises(SpecError, match="H200"):
        memory_of("Voodoo 3")


def test_samples_of_one_size_have_no_other_length() -> None:
    with pytest.raises(SpecError, match="one size"):
        fit_training(ARCHITECTURE, {"task": "digits_image"}, MIB, axis="length")
