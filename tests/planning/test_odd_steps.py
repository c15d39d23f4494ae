"""Plans of steps that are unlike others: peaks are those that are measured there too."""

from __future__ import annotations

import pytest
import torch

from tests.planning.test_trainings import NARROW, PARITY, check, planned

pytestmark = pytest.mark.usefixtures("only_new_garbage")


def test_a_layer_norm_on_narrow_numbers_is_planned() -> None:
    design = "name: x\nwidth: 32\nnodes: [{use: linear}, {use: layer_norm}, {use: mlp}]\n"
    check(design, PARITY | NARROW)


def test_what_is_frozen_at_the_beginning_saves_nothing_when_it_is_called_computed_again() -> None:
    design = "name: x\nwidth: 32\nnodes: [{use: rwkv7}, {use: attention, heads: 2}, {use: mlp}]\n"
    frozen = {"name": "first", "depth": [0.0, 0.3], "frozen": True}
    check(design, PARITY | {"batch": 32, "groups": [frozen]})


def test_a_plan_says_what_it_expects_where_data_decides() -> None:
    head = "name: x\nwidth: 16\nnodes: "
    made = planned(
        f"{head}[{{use: mlp}}, {{use: mixture_of_depths}}, {{use: moe, experts: 4}}]\n", PARITY
    )
    note = made.points()[0].note
    assert "Of mixture_of_depths, whose work data decides, the share asked for is expected" in note
    assert "Of moe, whose work data decides, every expert is expected" in note
    assert not planned(f"{head}[{{use: mlp}}]\n", PARITY).points()[0].note


@pytest.mark.parametrize("how", ["from its parts", "traced as a whole"])
@pytest.mark.parametrize("batch", [3, 9, 65])
def test_a_first_part_that_alone_is_larger_finds_no_gradients(batch: int, how: str) -> None:
    """Three samples in two parts are two and one: the two do not meet the gradients, which the one does."""
    tied = "[{id: g, repeat: 2, tie: true, nodes: [{use: mlp}]}, {use: attention, heads: 2}, {use: swiglu}]"
    apart = "[{use: mlp}, {use: attention, heads: 2}, {use: swiglu}]"
    design = f"name: x\nwidth: 64\nnodes: {apart if how == 'from its parts' else tied}\n"
    check(design, PARITY | {"batch": batch, "accumulation": 2})
    made = planned(design, PARITY | {"batch": batch, "accumulation": 2})
    peaks, times = made.curve.peak_bytes, made.curve.step_us
    assert (peaks[1:] > peaks[:-1]).all() and (times[1:] < times[:-1]).all()
    assert not made.points()[-1].recompute and made.choices.later is not None


@pytest.mark.parametrize("how", ["from its parts", "traced as a whole"])
def test_answers_that_are_numbers_keep_their_type(how: str) -> None:
    tied = "[{id: g, repeat: 2, tie: true, nodes: [{use: mlp}]}, {use: gru}]"
    nodes = "[{use: mlp}, {use: gru}]" if how == "from its parts" else tied
    design = f"name: x\nwidth: 16\nnodes: {nodes}\n"
    settings = {"task": "vowels_duration", "batch": 512}
    check(design, settings)
    assert planned(design, settings).recipe.answers is torch.float32
