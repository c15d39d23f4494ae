"""What caches are said to take is what their storages take, at every position, in designs of every kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.generate import generate
from hybridlab.architecture.library import open_architecture
from hybridlab.architecture.model import build
from hybridlab.components.growing import PolicyName, growing
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import SpecError
from hybridlab.planning.caches.measure import measure_caches
from hybridlab.planning.caches.predict import predict_caches
from hybridlab.planning.caches.prefix import PrefixCache
from hybridlab.planning.caches.record import CacheReport, form_of
from hybridlab.workflows.caches import caches_of

MIXED = """
name: kept
width: 16
nodes:
  - {use: token_embedding, vocab: 20, positions: true}
  - id: stage
    repeat: 2
    residual: pre
    nodes:
      - {use: mamba2, heads: 2}
      - {use: attention, heads: 2, window: 4}
  - id: shared
    repeat: 3
    tie: true
    nodes:
      - {use: gru}
      - {use: swiglu}
  - {id: left, use: short_conv}
  - {id: right, use: attention, heads: 2, inputs: [shared]}
  - {use: gated_sum, inputs: [left, right]}
  - {use: lm_head, vocab: 20}
"""
TOKENS = TensorType(TensorKind.TOKENS, ("B", "L"), "int64")


def agrees(found: CacheReport) -> None:
    for row in found.rows:
        assert row.measured_bytes == row.predicted_bytes, row.path
    assert found.measured_bytes == found.predicted_bytes


def test_bytes_are_those_of_the_storages() -> None:
    """A stack of windows, recurrences, convolutions and a tied group, for three sequences."""
    found = predict_caches(loads(MIXED), TOKENS, positions=(9, 1, 4, 3), batch=3)
    assert found.positions == (1, 3, 4, 9) and found.measured_bytes == ()
    model = build(loads(MIXED), TOKENS, seed=0).eval()
    found = measure_caches(model, found)
    agrees(found)
    rows = {row.path: row for row in found.rows}
    assert rows["stage.0.attention"].form == "fills" and rows["stage.0.attention"].full_at == 4
    assert rows["right"].form == "grows" and rows["right"].grows_bytes == 3 * 2 * 16 * 4
    assert rows["left"].form == rows["stage.1.mamba2"].form == "constant"
    assert rows["shared.swiglu"].form == "nothing"
    assert rows["shared.gru"].uses == 3
    assert rows["shared.gru"].predicted_bytes == (3 * 3 * 16 * 4,) * 4
    assert all(size is not None and size >= 0 for size in found.resident_bytes)


@pytest.mark.parametrize(
    "preset",
    ["griffin_mini", "rwkv7_mini", "striped_hyena_mini"],
)  # fmt: skip
def test_presets_keep_what_is_predicted(preset: str) -> None:
    found = caches_of(open_architecture(preset), "mqar", positions=(1, 2, 37))
    assert not found.no_step
    agrees(found)


def test_a_head_over_whole_sequences_is_left_out() -> None:
    found = caches_of(open_architecture("mamba2_mini"), "digits_sequence", positions=(1, 6))
    assert [row.path for row in found.no_step] == [found.left_out] == ["classifier"]
    assert "whole sequence" in found.no_step[0].no_step
    assert found.measured_bytes == found.predicted_bytes


def test_what_looks_ahead_is_named_and_not_measured() -> None:
    text = MIXED.replace(
        "{id: right, use: attention,", "{id: right, use: attention, causal: false,"
    )
    found = caches_of(loads(text), positions=(4,))
    ((row),) = found.no_step
    assert row.path == "right" and "looks ahead" in row.no_step and row.predicted_bytes == (0,)
    assert found.measured_bytes == () and found.predicted_bytes[0] > 0
    told = found.as_dict()
    assert told["no_step"] == [{"path": "right", "why": row.no_step}]
    image = caches_of(open_architecture("conv_attention_image"), "digits_image")
    assert image.no_step and image.measured_bytes == ()


def test_a_measurement_ends_in_time() -> None:
    found = caches_of(loads(MIXED), positions=(1, 50_000), limit_s=0.0)
    first, last = found.measured_bytes
    assert first == found.predicted_bytes[0] and last is None
    assert {row.measured_bytes[1] for row in found.rows} == {None}


@pytest.mark.parametrize(
    ("after", "form", "full_at"),
    [
        (lambda count: 8.0, "constant", None),
        (lambda count: 0.0, "nothing", None),
        (lambda count: 8.0 + count / 2, "grows", None),
        (lambda count: 4.0 * min(count, 2048), "fills", 2048),
        (lambda count: 4.0 * min(count, 1), "fills", 1),
    ],
)
def test_forms_follow_the_bytes(
    after: Callable[[int], float], form: str, full_at: int | None
) -> None:
    assert form_of(after) == (form, full_at)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        predict_caches(loads(MIXED), TOKENS, positions=(0, 4), batch=0)
    assert [problem.path for problem in caught.value.problems] == ["positions", "batch"]
    with pytest.raises(SpecError):
        predict_caches(loads(MIXED), TOKENS, positions=())


@pytest.mark.parametrize("growth", ["exact", "doubling", "reserved"])
def test_room_and_copies_are_as_predicted(growth: PolicyName) -> None:
    found = caches_of(loads(MIXED), positions=(1, 17, 40), batch=2, growth=growth)
    agrees(found)
    assert found.copied_bytes == found.measured_copied_bytes
    each = 2 * 2 * 16 * 4  # of keys and values for two sequences
    rows = {"exact": (1, 17, 40), "doubling": (16, 32, 64), "reserved": (40, 40, 40)}[growth]
    moved = {"exact": (0, 136, 780), "doubling": (0, 16, 48), "reserved": (0, 0, 0)}[growth]
    (right,) = [row for row in found.rows if row.path == "right"]
    assert right.measured_bytes == tuple(8 + count * each for count in rows)
    assert found.copied_bytes == tuple(count * each for count in moved)


def test_every_policy_writes_the_same_tokens() -> None:
    model = build(loads(MIXED), TOKENS, seed=0).eval()
    prompt = torch.randint(20, (2, 15), generator=torch.Generator().manual_seed(1))
    want = generate(model, prompt, 8)
    for policy in ("doubling", "reserved"):
        with growing(policy, 20):
            assert torch.equal(generate(model, prompt, 8), want)
            cache = PrefixCache(model, 2**30, every=4)
            cache.read(prompt[:1])
            assert torch.equal(generate(model, prompt, 8, read=cache.read), want)
