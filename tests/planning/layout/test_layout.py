"""Layouts of hand-overs: the cheapest of all by enumeration, applied without changing a bit of what is the same sum."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.components.channel_major import LAYOUTS
from hybridlab.errors import RunError
from hybridlab.planning import turns
from hybridlab.planning.inside import copied_inside
from hybridlab.planning.layout.choose import cheapest_layouts
from hybridlab.planning.layout.hand_over import HandedOver
from hybridlab.planning.layout.solve import Table, cheapest
from hybridlab.planning.layout.visits import visits
from hybridlab.planning.tuning.apply import Tuned
from hybridlab.planning.tuning.measure import choose_tuning
from hybridlab.planning.tuning.record import Tuning
from hybridlab.trace.step import TrainingStep

DESIGN = """
name: x
width: 8
nodes:
  - {use: token_embedding, vocab: 16}
  - id: block
    repeat: 2
    nodes:
      - {id: near, use: long_conv, length: 8}
      - {id: far, use: hyena, length: 8, inputs: [near]}
      - {id: join, use: sum, inputs: [near, far]}
  - {id: last, use: mlp}
"""


def step_of(*, training: bool = False) -> TrainingStep:
    model = build(loads(DESIGN), seed=0).train(training)
    tokens = torch.randint(16, (2, 12), generator=torch.Generator().manual_seed(0))
    return TrainingStep(model, (tokens,)) if training else TrainingStep(model, (tokens,), loss=None)


@pytest.mark.parametrize("seed", range(40))
def test_the_cheapest_of_all_is_found(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"v{number}" for number in range(draw.randint(1, 7))]
    options = dict.fromkeys(names, LAYOUTS)
    tables = [
        Table(
            own := tuple(draw.sample(names, min(len(names), draw.randint(1, 3)))),
            {way: draw.random() for way in itertools.product(LAYOUTS, repeat=len(own))},
        )
        for _ in range(draw.randint(1, 9))
    ]

    def total(chosen: dict[str, str]) -> float:
        return sum(one.costs[tuple(chosen[name] for name in one.names)] for one in tables)

    ways = itertools.product(LAYOUTS, repeat=len(names))
    least = min(total(dict(zip(names, way, strict=True))) for way in ways)
    found, chosen = cheapest(options, tables)
    assert found == pytest.approx(least) == pytest.approx(total(chosen))


def test_what_is_equal_stays_by_tokens_and_chains_are_quick() -> None:
    names = [f"v{number}" for number in range(300)]
    flat = dict.fromkeys(itertools.product(LAYOUTS, repeat=2), 1.0)
    tables = [Table(pair, flat) for pair in itertools.pairwise(names)]
    assert cheapest(dict.fromkeys(names, LAYOUTS), tables)[1] == dict.fromkeys(names, "tokens")


def test_who_reads_what_is_seen() -> None:
    found = {one.slot.path: one.sources for one in visits(step_of())}
    assert found["block.0.join"] == ("block.0.near", "block.0.far")
    assert found["block.1.near"] == ("block.0.join",)
    assert found["last"] == ("block.1.join",)


@pytest.mark.parametrize("training", [False, True])
def test_the_graph_takes_what_is_cheapest(
    monkeypatch: pytest.MonkeyPatch, *, training: bool
) -> None:
    """Where reading and running by channels saves half, all do; whoever gives it turns at a small cost."""

    def in_turns(step: TrainingStep, variants: list[object], rounds: int) -> list[list[float]]:
        times = [[1.0] * rounds]
        for one in variants:
            ms = 1.0
            if hasattr(one, "alone"):
                given = one.given[0]
                by_channels = given.dim() == 3 and given.stride(1) == 1
                ms = 1.0 - 0.5 * by_channels + 0.1 * (one.output == "channels")
            elif isinstance(one, Tuned):
                ms = 1.0 - 0.1 * bool(one.tuning.hand_over)
            times.append([ms] * rounds)
        return times

    monkeypatch.setattr(turns, "in_turns", in_turns)
    step = step_of(training=training)
    laid = cheapest_layouts(step)
    given = {"block.0.near", "block.0.join", "block.1.near", "block.1.join"}
    assert given <= set(laid.turned)
    assert all(one.channels_ms < one.tokens_ms for one in laid.hand_overs if one.writer in given)
    found = choose_tuning(step, rounds=7, hand_overs=True)
    assert found.applied and set(found.tuning.hand_over) == set(laid.turned)
    assert found.tuning.count == len(laid.turned) + len(found.tuning.layout)
    assert found.error <= found.tolerance and found.hand_overs == laid.hand_overs
    assert Tuning.read(found.as_dict()["tuning"]) == found.tuning


def test_what_does_not_make_the_step_faster_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turns(step: TrainingStep, variants: list[object], rounds: int) -> list[list[float]]:
        slow = [1.0 - 0.5 * (getattr(one, "output", None) == "channels") for one in variants]
        return [[1.0] * rounds, *([ms] * rounds for ms in slow)]

    monkeypatch.setattr(turns, "in_turns", in_turns)
    found = choose_tuning(step_of(), rounds=7, hand_overs=True)
    assert any(one.layout == "channels" for one in found.hand_overs)
    assert not found.applied and not found.tuning.hand_over


@pytest.mark.parametrize("training", [False, True])
def test_hand_overs_change_no_sum(*, training: bool) -> None:
    step = step_of(training=training)
    assert isinstance(step.model, GraphModel)
    slots = [slot for path, slot in step.model.slots() if path != "last"]
    step.model.double()
    assert turns.difference(step, HandedOver(slots)) <= 1e-12
    turned = HandedOver(slots)
    turned.on()
    assert visits(step)[2].inputs[0].stride(1) == 1
    turned.off()
    assert visits(step)[2].inputs[0].stride(2) == 1


def test_what_hands_over_no_sequence_is_refused() -> None:
    model = step_of(training=True).model
    assert isinstance(model, GraphModel)
    content = {"fingerprint": model.architecture.fingerprint, "hand_over": {"nowhere": "channels"}}
    with pytest.raises(RunError, match="hands over a sequence"):
        Tuned(model, Tuning.read(content))
    with pytest.raises(RunError, match="tuning"):
        Tuning.read({**content, "hand_over": {"last": "sideways"}})


def test_what_an_operator_copies_within_itself_is_seen() -> None:
    found = {one.writer: one for one in copied_inside(step_of()) if one.inside == "_fft_r2c"}
    assert {"block.0.near", "block.1.far"} <= set(found)
    read = found["block.0.near"].copied_bytes
    assert read >= 2 * 12 * 8 * 4 and found["block.0.near"].ms > 0
    step = step_of()
    for one in step.model.modules():
        if "layout" in one.__dict__:
            one.layout = "channels"
    turned = {one.writer: one for one in copied_inside(step) if one.inside == "_fft_r2c"}
    assert "block.0.near" not in turned or turned["block.0.near"].copied_bytes < read
