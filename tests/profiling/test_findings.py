"""Each finding on a profile that shows it, and on one that must not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import Tensor, nn

from hybridlab.hardware.caches import Cache
from hybridlab.profiling.findings import Finding, together
from hybridlab.profiling.medians import Median
from hybridlab.profiling.record import Profile
from hybridlab.profiling.report import report
from hybridlab.trace.live import live
from tests.profiling.profiles import CEILINGS, chain, profile_of, training

LARGE = (Cache("L1", 1 << 30),)


def told(
    profile: Profile,
    words: str,
    caches: tuple[Cache, ...] = LARGE,
    call_s: float = 0.0,
    speed: float = 1.0,
) -> list[Finding]:
    """Return the findings whose sentence holds these words; ``speed`` makes the machine slower or faster."""
    ceilings = replace(
        CEILINGS,
        call_s=call_s,
        flops_per_s={name: speed * value for name, value in CEILINGS.flops_per_s.items()},
        bandwidths=tuple(
            replace(one, bytes_per_s=speed * one.bytes_per_s) for one in CEILINGS.bandwidths
        ),
    )
    return [item for item in report(profile, caches, ceilings).findings if words in item.sentence]


def test_a_component_that_takes_much_more_than_predicted() -> None:
    stream = chain(lambda x: x.exp(), lambda x: x.sin(), lambda x: x.cos())
    (found,) = told(profile_of(stream, {"a": 6.0, "b": 2.0, "c": 2.0}, {"a": 2.0}), "of the step (")
    assert found.sentence == "a takes 60 % of the step (measured), 3.0 times its prediction"
    assert found.components == ("a",) and found.view == "roofline" and found.page == "design"
    assert found.evidence["ms"] == 6.0 and found.evidence["predicted_ms"] == 2.0
    parts = (lambda x: x.exp(),) * 5
    assert not told(profile_of(chain(*parts)), "of the step (")


def test_repeats_of_a_component_are_told_as_one() -> None:
    assert together(["stage.0.ssm", "stage.1.ssm"]) == "stage.*.ssm"
    assert together(["stage.0.ssm"]) == "stage.0.ssm"
    assert together(["stage.0.ssm", "stage.0.attn"]) == "stage.0.ssm"


def test_a_step_that_calls_more_than_it_computes() -> None:
    profile = profile_of(chain(lambda x: x.exp().sin().cos().tan()), {"a": 1.0})
    (found,) = told(profile, "overhead", call_s=1e-4)
    assert "4 operators a step, 250 µs each" in found.sentence
    assert (found.view, found.page) == ("operators", "train") and found.share == pytest.approx(0.4)
    assert not told(profile, "overhead", call_s=1e-5)


def test_a_component_far_below_the_ceilings() -> None:
    stream = training(nn.Linear(32, 64))
    profile = profile_of(stream, {"0": 1000.0})
    (found,) = told(profile, "ceilings")
    assert found.components == ("0",) and "1 s it takes" in found.sentence
    assert not told(profile, "ceilings", speed=1e-3)


def test_bytes_that_are_copied_on_their_way() -> None:
    profile = profile_of(chain(lambda x: x.exp(), lambda x: x.t().contiguous()))
    (found,) = told(profile, "cross")
    size = "12.5 KiB of 12.5 KiB"
    assert (
        found.sentence
        == f"100 % of the bytes that cross a → b are copied into another layout (transposed): {size} a step"
    )
    assert (found.view, found.page) == ("memory", "memory/tuning") and found.components == (
        "b",
        "a",
    )
    assert not told(profile_of(chain(lambda x: x.exp(), lambda x: x.t().sin())), "cross")


def test_element_wise_operators_in_a_row() -> None:
    (found,) = told(
        profile_of(chain(lambda x: x.exp().sin().cos(), lambda x: x @ x.t())), "in a row"
    )
    # Each of three reads and writes one tensor; one kernel for all reads and writes one.
    assert (
        "(1 row of together 3)" in found.sentence
        and "67 % fewer" in found.sentence
        and found.evidence["chains"] == 1
    )
    assert found.page == "memory/compiled"
    assert not told(profile_of(chain(lambda x: x.exp() @ x.t())), "in a row")


def test_work_that_is_repeated() -> None:
    def twice(x: Tensor) -> Tensor:
        return x.exp() @ x.exp().t()

    (found,) = told(profile_of(chain(twice)), "repeated")
    assert "repeated on unchanged inputs by 1 operator a step (exp)" in found.sentence
    assert not told(profile_of(chain(lambda x: x.exp() @ x.sin().t())), "repeated")


def test_work_that_nobody_reads() -> None:
    (found,) = told(profile_of(chain(lambda x: (x.sin(), x.cos())[1])), "Nothing reads")
    assert found.evidence["operators"] == 1
    assert not told(profile_of(chain(lambda x: x.sin().cos())), "Nothing reads")


def test_a_peak_made_of_what_waits_for_backward() -> None:
    profile = profile_of(training(nn.Linear(32, 2000), nn.GELU(), nn.Linear(2000, 4)))
    (found,) = told(profile, "waits for backward")
    assert (found.view, found.page) == ("memory", "memory") and found.evidence[
        "kept_bytes"
    ] >= 64 * 2000 * 4
    stream = profile.stream
    born = stream.storages["born"].to_pylist().index(live(stream).peak_tick)
    made = next(row for row in stream.ops.to_pylist() if born in row["outputs"])
    assert f"The peak in {made['phase']} of {made['component']} " in found.sentence
    assert not told(profile_of(chain(lambda x: x.exp())), "waits for backward")


def test_a_component_that_reads_from_beyond_every_cache() -> None:
    profile = profile_of(chain(lambda x: x.exp(), lambda x: x.sin()))
    assert told(profile, "beyond every cache", caches=(Cache("L1", 64),))
    assert not told(profile, "beyond every cache")


def test_what_speaks_against_the_measurement() -> None:
    stream = chain(lambda x: x.exp())
    fine = profile_of(stream)
    assert not [item for item in report(fine, LARGE, CEILINGS).findings if item.severity == "note"]
    (lost,) = told(profile_of(stream, attributed=0.8), "has no name")
    assert lost.severity == "note" and lost.view == "timeline"
    (spread,) = told(
        profile_of(stream, step=Median(2.0, 1.0, 3.0, 5, 0.9)), "vary from 1 ms to 3 ms"
    )
    assert spread.page == "profile"
    (off,) = told(profile_of(stream, step_ms_predicted=0.25), "times its prediction")
    assert "4 times" in off.sentence and off.severity == "note"


def test_the_weightiest_comes_first_and_doubts_last() -> None:
    stream = chain(lambda x: x.exp().sin().cos(), lambda x: x.t().contiguous())
    found = report(profile_of(stream, {"a": 9.0}, attributed=0.5), LARGE, CEILINGS).findings
    shares = [item.share for item in found if item.severity != "note"]
    assert len(shares) > 1 and shares == sorted(shares, reverse=True)
    assert found[-1].severity == "note"
    assert all(item.severity == "warning" for item in found[:1])
