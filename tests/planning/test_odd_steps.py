"""Plans of steps that are unlike others: peaks are those that are measured there too."""

from __future__ import annotations

import pytest

from tests.planning.test_trainings import NARROW, PARITY, check

pytestmark = pytest.mark.usefixtures("only_new_garbage")


def test_a_layer_norm_on_narrow_numbers_is_planned() -> None:
    design = "name: x\nwidth: 32\nnodes: [{use: linear}, {use: layer_norm}, {use: mlp}]\n"
    check(design, PARITY | NARROW)


def test_what_is_frozen_at_the_beginning_saves_nothing_when_it_is_called_computed_again() -> None:
    design = "name: x\nwidth: 32\nnodes: [{use: rwkv7}, {use: attention, heads: 2}, {use: mlp}]\n"
    frozen = {"name": "first", "depth": [0.0, 0.3], "frozen": True}
    check(design, PARITY | {"batch": 32, "groups": [frozen]})
