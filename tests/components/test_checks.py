"""What a component says of parameters that do not fit, and what state it claims to keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybridlab.components.base import BuildContext
from hybridlab.components.registry import lookup, palette
from hybridlab.components.types import TensorKind, TensorType, sequence
from hybridlab.errors import SpecError

ContextFor = Callable[..., BuildContext]

REFUSED: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "attention",
        {"heads": 5},
        ["heads: 5 does not divide width 64 (expected a divisor of 64, got 5); try 4 or 8"],
    ),
    (
        "attention",
        {"heads": 8, "kv_heads": 3},
        ["kv_heads: 3 does not divide heads 8 (expected a divisor of 8, got 3); try 2 or 4"],
    ),
    (
        "attention",
        {"head_dim": 5},
        [
            "head_dim: rotary positions turn pairs of features, but a head has 5 (expected an even "
            "head size, got 5); set rotary: false, or change heads or head_dim"
        ],
    ),
    (
        "mamba2",
        {"heads": 3},
        ["heads: 3 does not divide 2 x width = 128 (expected a divisor of 128, got 3); try 2 or 4"],
    ),
    (
        "mamba2",
        {"groups": 3},
        ["groups: 3 does not divide heads 4 (expected a divisor of 4, got 3); try 2 or 4"],
    ),
    (
        "gated_linear_attention",
        {"heads": 6},
        [
            "heads: 6 does not divide the keys' features, 32 (expected a divisor of 32, got 6); "
            "try 4 or 8",
            "heads: 6 does not divide the values' features, 64 (expected a divisor of 64, got 6); "
            "try 4 or 8",
        ],
    ),
    (
        "moe",
        {"top_k": 9},
        [
            "top_k: cannot choose more experts than there are (expected at most 4, got 9); "
            "lower top_k to 4 or raise experts"
        ],
    ),
    (
        "patch_embedding",
        {"patch": 3},
        [
            "patch: 3 does not divide the image's height 8 (expected a divisor of 8, got 3); try 2 or 4"
        ],
    ),
]


@pytest.mark.parametrize(("name", "params", "sentences"), REFUSED)
def test_refusals_name_the_parameter_and_a_fix(
    name: str, params: dict[str, Any], sentences: list[str], context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    problems = list(cls.check(cls.Params(**params), context_for(name)))
    assert [problem.sentence() for problem in problems] == sentences


@pytest.mark.parametrize("name", list(palette()))
def test_defaults_fit_width_64(name: str, context_for: ContextFor) -> None:
    cls = palette()[name].cls
    assert list(cls.check(cls.Params(), context_for(name))) == []


def test_sincos_positions_need_quarters() -> None:
    cls = palette()["patch_embedding"].cls
    context = BuildContext((TensorType(TensorKind.IMAGE, ("B", 1, 8, 8)),), 30)
    (problem,) = cls.check(cls.Params(positions="sincos"), context)
    assert problem.path == "positions" and "divisible by 4" in problem.sentence()


@pytest.mark.parametrize("name", ["token_embedding", "pixel_series"])
def test_a_sequence_past_the_learned_positions_is_a_warning(name: str) -> None:
    cls = palette()[name].cls
    (kind,) = cls.accepts
    shape: tuple[str | int, ...] = ("B", 50) if kind is TensorKind.TOKENS else ("B", 50, 1)
    context = BuildContext((TensorType(kind, shape),), 8)
    (problem,) = cls.check(cls.Params(positions=True, max_length=20), context)
    assert problem.severity == "warning" and problem.fix == "set max_length to 50"
    assert list(cls.check(cls.Params(positions=True, max_length=50), context)) == []


@pytest.mark.parametrize("name", ["sum", "gated_sum", "concat"])
def test_merges_refuse_branches_that_do_not_fit(name: str) -> None:
    cls = palette()[name].cls
    shorter = BuildContext((sequence(8), sequence(8, "L/2"), sequence(8)), 8)
    (problem,) = cls.check(cls.Params(), shorter)
    assert problem.path == "inputs[1]" and "L/2" in problem.got
    wider = list(cls.check(cls.Params(), BuildContext((sequence(8), sequence(8), sequence(9)), 8)))
    assert [p.path for p in wider] == ([] if name == "concat" else ["inputs[2]"])


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean 'attention'"):
        lookup("atention")


STATES: list[tuple[str, dict[str, Any], float, float]] = [
    # name, parameters, bytes per token, bytes that stay; width 64, float32
    ("attention", {}, 2 * 64 * 4, 0),
    ("attention", {"kv_heads": 1}, 2 * 16 * 4, 0),
    ("attention", {"window": 32}, 0, 32 * 2 * 64 * 4),
    ("attention", {"conv": 4}, 2 * 64 * 4, 3 * 3 * 64 * 4),
    ("mamba2", {}, 0, (16 * 128 + 3 * (128 + 2 * 16)) * 4),
    ("gated_linear_attention", {}, 0, 4 * 8 * 16 * 4),
    ("short_conv", {}, 0, 3 * 64 * 4),
    ("lstm", {}, 0, 2 * 64 * 4),
    ("gru", {"hidden": 10}, 0, 10 * 4),
    ("moe", {}, 0, 0),
]


@pytest.mark.parametrize(("name", "params", "per_token", "fixed"), STATES)
def test_state_bytes(
    name: str, params: dict[str, Any], per_token: float, fixed: float, context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    assert cls.state_bytes_per_token(cls.Params(**params), context_for(name)) == per_token
    assert cls.state_bytes(cls.Params(**params), context_for(name)) == fixed
