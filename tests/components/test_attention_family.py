"""Attention and its relatives: special cases, refusals, state, and the attention of published models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build as build_model
from hybridlab.components.base import BuildContext, Component
from hybridlab.components.registry import palette
from hybridlab.components.rotary import RotaryParams, turned
from hybridlab.components.token_mixers.blocked_attention import (
    alibi_slopes,
    blocked_attention,
)
from hybridlab.components.token_mixers.naive_attention import (
    attend_row_by_row,
    slopes,
    turned_as_complex,
)
from hybridlab.components.token_mixers.softmax_attention import attend
from hybridlab.components.types import sequence
from hybridlab.errors import StepError

Build = Callable[..., Component]
ContextFor = Callable[..., BuildContext]

RULES: list[dict[str, Any]] = [
    {},
    {"soft_cap": 3.0},
    {"alibi": True},
    {"sinks": True},
    {"sinks": True, "alibi": True, "soft_cap": 1.5, "scale": 0.9},
]


@pytest.mark.parametrize("window", [None, 1, 100])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_blocks_of_queries_are_softmax(
    rules: dict[str, Any], causal: bool, window: int | None
) -> None:
    """Over several blocks, with shared keys, values of another size and all gradients, in float64."""
    length = 265
    given = {"scale": 0.5, **rules, "causal": causal, "window": window}
    shapes = [(2, 6, length, 5), (2, 2, length, 5), (2, 2, length, 3)]
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    if given.pop("sinks", False):
        leaves.append(torch.randn(6, dtype=torch.float64, requires_grad=True))
    direction = torch.randn(2, 6, length, 3, dtype=torch.float64)
    results = []
    for form in (blocked_attention, attend_row_by_row):
        y = form(*leaves[:3], sinks_H=leaves[3] if leaves[3:] else None, **given)
        results.append([y, *torch.autograd.grad(y, leaves, direction)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rules", RULES[1:], ids=str)
def test_memory_of_changed_scores_is_linear_in_length(rules: dict[str, Any], build: Build) -> None:
    kept = []
    module = build("attention", width=8, heads=2, rotary=False, **rules)
    for length in (256, 2048):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: (sizes.append(x.numel()), x)[1], lambda x: x
        ):
            module(torch.randn(1, length, 8))
        kept.append(sum(sizes))
    assert kept[1] < 8.5 * kept[0]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by dynamo
@pytest.mark.parametrize(
    "params",
    [
        {"alibi": True, "rotary": False, "sinks": True, "soft_cap": 5.0, "window": 40},
        {"output_gate": True, "rotary_share": 0.5, "rotary_scaling": "llama3"},
    ],
)
def test_options_compile_as_one_graph_and_run_in_mixed_precision(
    params: dict[str, Any], build: Build
) -> None:
    module = build("attention", width=16, **params)
    x = torch.randn(2, 150, 16, requires_grad=True)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(x)
    torch.testing.assert_close(mixed.float(), module(x), rtol=0.05, atol=0.05)
    mixed.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 12, 20])
def test_slopes_of_alibi(heads: int) -> None:
    torch.testing.assert_close(
        alibi_slopes(heads, torch.device("cpu")), torch.tensor(slopes(heads)), rtol=1e-6, atol=0
    )


def test_a_large_cap_and_a_very_low_sink_change_nothing(build: Build) -> None:
    plain = build("attention", width=16, heads=2)
    x = torch.randn(2, 30, 16)
    capped = build("attention", width=16, heads=2, soft_cap=1e4)
    sunk = build("attention", width=16, heads=2, sinks=True)
    capped.load_state_dict(plain.state_dict())
    sunk.load_state_dict({**plain.state_dict(), "sinks": torch.full((2,), -100.0)})
    torch.testing.assert_close(capped(x), plain(x))
    torch.testing.assert_close(sunk(x), plain(x))
    sunk.load_state_dict({**plain.state_dict(), "sinks": torch.full((2,), 100.0)})
    assert sunk(x).abs().max() < 1e-6, "a very high sink takes all the weight"


def test_extreme_scores_have_finite_gradients() -> None:
    """Scores of ten thousand, where all weight is on one key or on the sink."""
    leaves = [(torch.randn(1, 2, 150, 4) * 100).requires_grad_() for _ in range(3)]
    sinks = torch.tensor([1e4, -1e4], requires_grad=True)
    y = blocked_attention(*leaves, scale=1.0, causal=True, sinks_H=sinks, soft_cap=1e4, alibi=True)
    y.sum().backward()
    assert y.isfinite().all()
    for leaf in (*leaves, sinks):
        assert leaf.grad is not None and leaf.grad.isfinite().all()


@pytest.mark.parametrize("scaling", ["none", "linear", "llama3", "yarn", "yarn_exact"])
@pytest.mark.parametrize("pairs", [True, False])
def test_scaled_rotations(scaling: str, pairs: bool) -> None:
    params = RotaryParams.model_validate(
        {"rotary_scaling": scaling, "rotary_trained": 500, "rotary_factor": 4.0}
    )
    x = torch.randn(1, 2, 300, 32)
    got, want = turned(x, params, pairs=pairs), turned_as_complex(x, params, pairs=pairs)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_latents_of_full_rank_are_plain_attention(build: Build) -> None:
    """Where the maps up from the latent vector undo those down, it is attention on that vector."""
    module = build("latent_attention", width=16, heads=2, rope_dim=0, kv_rank=16)
    plain = build("attention", width=16, heads=2, rotary=False)
    with torch.no_grad():
        module.get_parameter("latent_down.weight").copy_(torch.eye(16))
        up = module.get_parameter("latent_up.weight").unflatten(0, (2, 2, 8))
        weights = (
            module.get_parameter("query.weight"),
            up[:, 0].flatten(0, 1),
            up[:, 1].flatten(0, 1),
        )
        plain.get_parameter("project_in.weight").copy_(torch.cat(weights))
        plain.get_parameter("project_out.weight").copy_(module.get_parameter("project_out.weight"))
    x = torch.nn.functional.rms_norm(torch.randn(2, 20, 16), (16,), eps=1e-6)
    torch.testing.assert_close(module(x), plain(x), rtol=1e-4, atol=1e-5)


def test_without_a_second_map_it_is_plain_attention_with_a_norm(build: Build) -> None:
    module = build("differential_attention", width=16, heads=2, lambda_start=0.0, rotary=False)
    with torch.no_grad():
        for name in ("lambda_q1", "lambda_q2"):
            module.get_parameter(name).zero_()
    x = torch.randn(2, 20, 16)
    q, k, v = torch.split(module.project_in(x), [16, 16, 16], dim=-1)  # type: ignore[operator]
    q, k = (part[..., :8].unflatten(-1, (2, 4)).transpose(1, 2) for part in (q, k))
    v = v.unflatten(-1, (2, 2, 4)).transpose(2, 3).flatten(3).transpose(1, 2)
    heads = torch.nn.functional.rms_norm(attend(q, k, v, causal=True), (8,), eps=1e-5)
    want = module.project_out(heads.transpose(1, 2).flatten(2))  # type: ignore[operator]
    torch.testing.assert_close(module(x), want)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [3, 40])
def test_cross_attention_takes_any_length_and_width(causal: bool, length: int) -> None:
    cls = palette()["cross_attention"].cls
    context = BuildContext((sequence(16), sequence(10, "L/2")), 16)
    params = cls.Params(causal=causal, kv_heads=2)
    problems = list(cls.check(params, context))
    assert [p.severity for p in problems] == ["warning"] * causal
    module = cls(params, context)
    x, other = torch.randn(2, 21, 16), torch.randn(2, length, 10)
    torch.testing.assert_close(module(x, other), module.reference(x, other))


def test_cross_attention_of_a_sequence_with_itself(build: Build) -> None:
    module = build("cross_attention", width=16, heads=2)
    plain = build("attention", width=16, heads=2, rotary=False)
    weights = module.state_dict()
    projected = torch.cat((weights["queries.weight"], weights["keys_values.weight"]))
    plain.load_state_dict(
        {"project_in.weight": projected, "project_out.weight": weights["project_out.weight"]}
    )
    x = torch.randn(2, 20, 16)
    torch.testing.assert_close(module(x, x), plain(x))


def test_a_graph_joins_two_branches_by_cross_attention() -> None:
    """With its residual and norm around the first input, at once and one position at a time."""
    nodes = """
  - {id: text, use: token_embedding, vocab: 11}
  - {id: other, use: short_conv}
  - {id: look, use: cross_attention, inputs: [text, other]}
  - {use: lm_head, vocab: 11}"""
    model = build_model(loads(f"name: x\nwidth: 16\nnodes:{nodes}"), seed=0).eval()
    tokens = torch.randint(0, 11, (2, 12))
    with torch.no_grad():
        want, states = model(tokens), model.start(2)
        for t in range(12):
            row, states = model.step(states, tokens[:, t])
            torch.testing.assert_close(row, want[:, t], rtol=1e-4, atol=1e-5)


def test_a_sharp_memory_finds_the_stored_pattern(build: Build) -> None:
    """One update goes from near a pattern to the pattern itself, and stays there."""
    module = build("hopfield", width=32, heads=1, patterns=10, beta=4.0, updates=1)
    with torch.no_grad():
        for name in ("project_in", "project_out"):
            module.get_parameter(f"{name}.weight").copy_(torch.eye(32))
    stored = module.get_parameter("stored")[0].T
    patterns = stored / stored.square().mean(-1, keepdim=True).sqrt()
    found = module(patterns[None] + 0.3 * torch.randn(1, 10, 32))
    torch.testing.assert_close(found[0], patterns, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(module(found), found, rtol=1e-3, atol=1e-3)


def test_more_updates_lower_the_energy(build: Build) -> None:
    """The energy of the paper's theorem: -logsumexp(beta X^T z) / beta + z^T z / 2."""
    module = build("hopfield", width=32, heads=1, patterns=10, updates=1)
    with torch.no_grad():
        for name in ("project_in", "project_out"):
            module.get_parameter(f"{name}.weight").copy_(torch.eye(32))
    stored = module.get_parameter("stored")[0].T
    patterns, beta = stored / stored.square().mean(-1, keepdim=True).sqrt(), 32**-0.5
    z, energies = torch.randn(1, 20, 32), []
    for _ in range(4):
        energies.append(z.square().sum(-1) / 2 - (beta * z @ patterns.T).logsumexp(-1) / beta)
        z = module(z)
    assert all((later <= earlier + 1e-4).all() for earlier, later in itertools.pairwise(energies))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "attention",
        {"alibi": True},
        "alibi: ALiBi takes the place of rotary positions (expected one of the two, got both); set "
        "rotary: false, or alibi: false",
    ),
    (
        "attention",
        {"rotary_share": 0.3, "head_dim": 10},
        "rotary_share: rotary positions turn pairs of features, but 0.3 of a head's 10 features is 3 "
        "(expected an even number of features, got 3); try 0.2",
    ),
    (
        "attention",
        {"rotary_scaling": "llama3", "rotary_slow": 4.0},
        "rotary_slow: a slow feature cannot turn more often than a fast one (expected less than 4 "
        "turns, got 4); lower rotary_slow or raise rotary_fast",
    ),
    (
        "latent_attention",
        {"rope_dim": 3},
        "rope_dim: rotary positions turn pairs of features (expected an even number, got 3); try 4, "
        "or set rotary: false",
    ),
    (
        "latent_attention",
        {"heads": 3},
        "heads: 3 does not divide width 64 (expected a divisor of 64, got 3); try 2 or 4",
    ),
    (
        "differential_attention",
        {"heads": 3},
        "heads: 3 does not divide half the width 64: 32 (expected a divisor of 32, got 3); try 2 or 4",
    ),
    (
        "differential_attention",
        {"head_dim": 5},
        "head_dim: rotary positions turn pairs of features, but a query has 5 (expected an even size, "
        "got 5); set rotary: false, or change heads or head_dim",
    ),
    (
        "cross_attention",
        {"heads": 4, "kv_heads": 3},
        "kv_heads: 3 does not divide heads 4 (expected a divisor of 4, got 3); try 2 or 4",
    ),
    (
        "hopfield",
        {"heads": 5},
        "heads: 5 does not divide width 64 (expected a divisor of 64, got 5); try 4 or 8",
    ),
]


@pytest.mark.parametrize(("name", "params", "sentence"), REFUSED)
def test_refusals(
    name: str, params: dict[str, Any], sentence: str, context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    (problem,) = cls.check(cls.Params(**params), context_for(name))
    assert problem.sentence() == sentence


STATES: list[tuple[str, dict[str, Any], float, float]] = [
    ("attention", {"sinks": True, "soft_cap": 2.0, "output_gate": True}, 2 * 64 * 4, 0),
    ("attention", {"sinks": True, "window": 32, "kv_heads": 1}, 0, 32 * 2 * 16 * 4),
    ("latent_attention", {"kv_rank": 24, "rope_dim": 6}, (24 + 6) * 4, 0),
    ("differential_attention", {}, 2 * 64 * 4, 0),
    ("differential_attention", {"kv_heads": 1}, 4 * 16 * 4, 0),
    ("cross_attention", {"kv_heads": 2}, 2 * 32 * 4, 0),
    ("hopfield", {}, 0, 0),
]


@pytest.mark.parametrize(("name", "params", "per_token", "fixed"), STATES)
def test_state_bytes(
    name: str, params: dict[str, Any], per_token: float, fixed: float, context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    assert cls.state_bytes_per_token(cls.Params(**params), context_for(name)) == per_token
    assert cls.state_bytes(cls.Params(**params), context_for(name)) == fixed


@pytest.mark.parametrize("name", ["latent_attention", "differential_attention", "cross_attention"])
def test_what_looks_ahead_cannot_step(name: str, build: Build) -> None:
    module = build(name, width=16, causal=False)
    with pytest.raises(StepError, match="looks ahead"):
        module.step(module.start(2), *[torch.randn(2, 16)] * module.min_inputs)


def test_dynamic_tanh_squashes(build: Build) -> None:
    module = build("dynamic_tanh", width=4, alpha=0.5)
    x = torch.tensor([[[1e6, -1e6, 0.0, 2.0]]])
    torch.testing.assert_close(module(x), torch.tensor([[[1.0, -1.0, 0.0, math.tanh(1.0)]]]))
