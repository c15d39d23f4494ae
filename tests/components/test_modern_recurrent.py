"""xLSTM, RWKV and spiking neurons: other implementations, special cases, and gates at their extremes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.components.base import BuildContext, Component
from hybridlab.components.registry import palette
from hybridlab.components.token_mixers.lif_scan import lif
from hybridlab.components.token_mixers.mlstm_chunks import mlstm
from hybridlab.components.token_mixers.rwkv7_chunks import rwkv7
from hybridlab.components.token_mixers.slstm_scan import slstm
from hybridlab.components.token_mixers.wkv4 import wkv4
from tests.components.recurrences import agree, dplr, with_grads

Build = Callable[..., Component]
ContextFor = Callable[..., BuildContext]


def _scatter(module: nn.Module) -> None:
    """Draw every weight anew, so that nothing is hidden by a start at zero or one."""
    with torch.no_grad():
        for weight in module.parameters():
            bound = 1.5 / max(1, weight.shape[-1] if weight.dim() > 1 else 4) ** 0.5
            weight.uniform_(-bound, bound)


# Other implementations


@pytest.mark.parametrize(("mode", "length"), [("train", 48), ("inference", 41)])
def test_mlstm_is_the_layer_of_transformers(mode: str, length: int, build: Build) -> None:
    xlstm = importlib.import_module("transformers.models.xlstm.modeling_xlstm")
    config = xlstm.xLSTMConfig(
        hidden_size=64,
        num_heads=4,
        num_hidden_layers=1,
        chunk_size=16,
        mode=mode,
        autocast_kernel_dtype="float32",
    )
    theirs = xlstm.xLSTMLayer(config)
    _scatter(theirs)
    mine = build("mlstm", chunk=7)
    gates = (theirs.igate_preact, theirs.fgate_preact)
    maps = (theirs.q, theirs.k, theirs.v, theirs.ogate_preact)
    with torch.no_grad():
        mine.project_in.weight.copy_(torch.cat([part.weight for part in maps]))
        mine.gates.weight.copy_(torch.cat([gate.weight for gate in gates]) * 3)
        mine.gates.bias.copy_(torch.cat([gate.bias for gate in gates]))
        for gate in gates:
            gate.weight.mul_(3)
        mine.norm.scale.copy_(theirs.multihead_norm.weight)
        mine.project_out.weight.copy_(theirs.out_proj.weight)
    x = torch.randn(2, length, 64)
    got = with_grads(mine, [x], torch.float32)
    want = with_grads(lambda given: theirs(given)[0], [x], torch.float32)
    agree(got, want, 1e-4)


def test_rwkv4_is_the_block_of_transformers(build: Build) -> None:
    rwkv = importlib.import_module("transformers.models.rwkv.modeling_rwkv")
    config = rwkv.RwkvConfig(
        hidden_size=16, attention_hidden_size=24, intermediate_size=40, num_hidden_layers=2
    )
    theirs, theirs_mix = rwkv.RwkvSelfAttention(config), rwkv.RwkvFeedForward(config)
    mine, mix = build("rwkv4", width=16, hidden=24), build("rwkv_channel_mix", width=16, ratio=2.5)
    for module in (theirs, theirs_mix):
        _scatter(module)
    with torch.no_grad():
        mine.log_rate.copy_(theirs.time_decay)
        mine.bonus.copy_(theirs.time_first)
        mine.project_out.weight.copy_(theirs.output.weight)
        for ours, others, names in (
            (mine, theirs, ("key", "value", "receptance")),
            (mix, theirs_mix, ("key", "receptance")),
        ):
            for name in names:
                share = getattr(others, f"time_mix_{name}").flatten()
                getattr(ours, f"{name}_shift").copy_(1 - share)
                getattr(ours, name).weight.copy_(getattr(others, name).weight)
        mix.value.weight.copy_(theirs_mix.value.weight)
    x = torch.randn(2, 41, 16)
    for ours, others in ((mine, theirs), (mix, theirs_mix)):
        got = with_grads(ours, [x], torch.float32)
        want = with_grads(lambda given, others=others: others(given)[0], [x], torch.float32)
        agree(got, want, 1e-4)


def _shifted(x: Tensor) -> Tensor:
    return nn.ZeroPad2d((0, 0, 1, -1))(x) - x


def test_rwkv6_is_the_authors_layer(build: Build) -> None:
    """RWKV_Tmix_x060 of the authors' repository, around fla's naive recurrence, on the same weights."""
    module = build("rwkv6", width=16, heads=2, mix_rank=3, decay_rank=5).double()
    _scatter(module)
    x = torch.randn(2, 41, 16, dtype=torch.float64)
    delta = _shifted(x)
    low = torch.tanh((x + delta * module.mix_shift) @ module.mix_down.weight.T)
    low = low.view(82, 5, -1).transpose(0, 1)
    parts = torch.bmm(low, module.mix_up).view(5, 2, 41, 16)
    xr, xw, xk, xv, xg = (
        x + delta * (maa + part) for maa, part in zip(module.shift.chunk(5), parts, strict=True)
    )
    w = module.rate.up.bias + torch.tanh(xw @ module.rate.down.weight.T) @ module.rate.up.weight.T
    r, k, v, w = (
        part.view(2, 41, 2, 8)
        for part in (module.receptance(xr), module.key(xk), module.value(xv), -torch.exp(w))
    )
    state, o = torch.zeros(2, 2, 8, 8, dtype=torch.float64), torch.zeros_like(v)
    for i in range(41):
        kv = k[:, i, :, :, None] * v[:, i, :, None, :]
        o[:, i] = ((state + module.bonus.view(2, 8, 1) * kv) * r[:, i, :, :, None]).sum(-2)
        state = state * w[:, i].exp()[..., None] + kv
    norm = nn.GroupNorm(2, 16, eps=1e-5 * 8**2).double()
    norm.weight, norm.bias = module.norm.scale, module.norm.shift
    want = module.project_out(norm(o.view(82, 16)).view(2, 41, 16) * F.silu(module.gate(xg)))
    torch.testing.assert_close(module(x), want)


def test_rwkv7_is_the_authors_layer(build: Build) -> None:
    """RWKV_Tmix_x070 of the authors' repository (its first layer), around fla's naive recurrence."""
    module = build("rwkv7", width=16, heads=2, rank=3, gate_rank=5, chunk=16).double()
    _scatter(module)
    x = torch.randn(2, 41, 16, dtype=torch.float64)
    xr, xw, xk, xv, xa, xg = (x + _shifted(x) * share for share in module.shift.chunk(6))
    low = torch.tanh(xw @ module.decay.down.weight.T) @ module.decay.up.weight.T
    w = -F.softplus(-(module.decay.up.bias + low)) - 0.5
    k, v, r = module.key(xk), module.value(xv), module.receptance(xr)
    low = (xa @ module.rate.down.weight.T) @ module.rate.up.weight.T
    a = torch.sigmoid(module.rate.up.bias + low)
    g = torch.sigmoid(xg @ module.gate_down.weight.T) @ module.gate_up.weight.T
    kk = F.normalize((k * module.removal_scale).view(2, 41, 2, 8), dim=-1, p=2.0)
    k = k * (1 + (a - 1) * module.rate_share)
    r, w, k, v, a = (part.view(2, 41, 2, 8) for part in (r, w, k, v, a))
    o = dplr(r, k, v, -kk, kk * a, -torch.exp(w))
    norm = nn.GroupNorm(2, 16, eps=64e-5).double()
    norm.weight, norm.bias = module.norm.scale, module.norm.shift
    o = norm(o.reshape(82, 16)).view(2, 41, 16)
    o = o + ((r * k * module.bonus.view(2, 8)).sum(dim=-1, keepdim=True) * v).view(2, 41, 16)
    torch.testing.assert_close(module(x), module.project_out(o * g))


# Special cases


def test_mlstm_with_open_gates_is_normalised_linear_attention() -> None:
    q, k, v = (torch.randn(1, 50, 2, 4).abs() for _ in range(3))
    open_gates = torch.zeros(1, 50, 2)
    scores = torch.einsum("blhk,bmhk->bhlm", q, k).tril()
    want = torch.einsum("bhlm,bmhv->blhv", scores, v)
    want = want / scores.sum(-1).clamp(min=1).transpose(1, 2).unsqueeze(-1)
    torch.testing.assert_close(mlstm(q, k, v, open_gates, open_gates, 16), want)


def test_mlstm_lets_a_late_input_outweigh_all_before(build: Build) -> None:
    q, k, v = (torch.randn(1, 80, 1, 4) for _ in range(3))
    write = torch.zeros(1, 80, 1)
    write[:, 70] = 60.0
    h = mlstm(q, k, v, write, torch.zeros(1, 80, 1), 16)
    sign = (q[:, 70:] * k[:, 70:71]).sum(-1, keepdim=True).sign()
    torch.testing.assert_close(h[:, 70:], sign * v[:, 70:71], rtol=1e-4, atol=1e-4)


def test_slstm_does_not_depend_on_the_scale_of_its_input_gate(build: Build) -> None:
    """Memory and normaliser grow alike, which a plain LSTM does not do."""
    module, x = build("slstm", width=16), torch.randn(2, 20, 16)
    want = module(x)
    with torch.no_grad():
        module.bias[:16] += 30.0
    torch.testing.assert_close(module(x), want, rtol=1e-4, atol=1e-4)


def test_slstm_heads_do_not_read_each_other() -> None:
    inputs, matrix = torch.randn(1, 12, 4, 2, 3), torch.randn(2, 3, 4, 3)
    want = slstm(inputs, matrix)[:, :, 0]
    inputs[:, :, :, 1] = 9.0
    torch.testing.assert_close(slstm(inputs, matrix)[:, :, 0], want)


def test_rwkv4_without_fading_is_the_mean_so_far() -> None:
    v, zeros = torch.randn(2, 30, 5), torch.zeros(2, 30, 5)
    got = wkv4(zeros, v, torch.zeros(5), torch.zeros(5))
    torch.testing.assert_close(got, v.cumsum(1) / torch.arange(1, 31).unsqueeze(-1))


def test_rwkv7_at_full_rate_replaces_what_a_key_held() -> None:
    key = F.normalize(torch.randn(1, 1, 1, 4), dim=-1).expand(1, 9, 1, 4)
    v = torch.randn(1, 9, 1, 3)
    o = rwkv7(key, key, v, -key, key, torch.zeros(1, 9, 1, 4), 4)
    torch.testing.assert_close(o, v)


def test_rwkv7_at_rate_zero_is_linear_attention() -> None:
    r, k, v = (torch.randn(1, 70, 2, 4) for _ in range(3))
    none = torch.zeros_like(k)
    want = torch.einsum("blhk,bmhk->bhlm", r, k).tril() @ v.transpose(1, 2)
    torch.testing.assert_close(rwkv7(r, k, v, -k, none, none, 32), want.transpose(1, 2))


def test_channel_mix_reads_the_present_and_the_one_before(build: Build) -> None:
    module, x = build("rwkv_channel_mix", width=16, receptance=False), torch.randn(1, 9, 16)
    before = module(x)
    x[:, 3] += 1
    apart = (module(x) - before).abs().amax((0, 2)) > 1e-6
    assert apart.tolist() == [t in (3, 4) for t in range(9)]
    assert type(module).causal(module.params) is True
    with torch.no_grad():
        module.key_shift.zero_()
    plain = F.relu(x @ module.key.weight.T).square() @ module.value.weight.T
    torch.testing.assert_close(module(x), plain)


@pytest.mark.parametrize(
    ("to_zero", "spikes"), [(False, [0, 1, 1, 0, 1, 1, 0, 1]), (True, [0, 1, 0, 1, 0, 1, 0, 1])]
)
def test_a_neuron_by_hand(to_zero: bool, spikes: list[int]) -> None:
    """Current 0.9, half kept: .9, then 1.35 fires; .35 or nothing is left, so 1.075 fires or .9 does not."""
    got = lif(torch.full((1, 8, 1), 0.9), torch.tensor([0.5]), 1.0, 2.0, to_zero)
    assert got.flatten().tolist() == spikes


def test_the_gradient_of_a_spike_is_a_fast_sigmoid() -> None:
    current = torch.tensor([0.2, 0.95, 1.0, 1.5]).view(4, 1, 1).requires_grad_()
    lif(current, torch.tensor([0.5]), 1.0, 3.0, False).sum().backward()
    want = (1 + 3 * (current.detach() - 1).abs()) ** -2
    torch.testing.assert_close(current.grad, want)


def test_16_bits_do_not_move_spikes(build: Build) -> None:
    module = build("spiking_lif").bfloat16()
    with torch.no_grad():
        module.project_out.weight.copy_(torch.eye(64))
        module.project_out.bias.zero_()
    x = torch.randn(4, 200, 64).bfloat16()
    narrow = module(x)
    assert set(narrow.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(narrow.float(), module.float()(x.float()))


# What they say of settings


@pytest.mark.parametrize(
    ("name", "params", "sentences"),
    [
        (
            "mlstm",
            {"heads": 6},
            [
                "heads: 6 does not divide the keys' features, 32 (expected a divisor of 32, got 6); "
                "try 4 or 8",
                "heads: 6 does not divide the values' features, 64 (expected a divisor of 64, got 6); "
                "try 4 or 8",
            ],
        ),
        *(
            (
                name,
                {"heads": 64},
                [
                    "heads: a norm over the one feature of a head gives zero (expected at most half as "
                    "many heads as features, got 64); try 32"
                ],
            )
            for name in ("slstm", "rwkv6", "rwkv7")
        ),
        (
            "rwkv7",
            {"heads": 5},
            ["heads: 5 does not divide width 64 (expected a divisor of 64, got 5); try 4 or 8"],
        ),
    ],
)
def test_refusals_name_the_parameter_and_a_fix(
    name: str, params: dict[str, Any], sentences: list[str], context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    problems = list(cls.check(cls.Params(**params), context_for(name)))
    assert [problem.sentence() for problem in problems] == sentences


@pytest.mark.parametrize(
    ("name", "params", "numbers"),
    [
        ("mlstm", {}, 4 * (8 * 16 + 8 + 1)),
        ("slstm", {}, 4 * 64 + 3 * 64),
        ("slstm", {"conv": 0}, 4 * 64),
        ("rwkv4", {"hidden": 100}, 64 + 3 * 100),
        ("rwkv6", {"heads": 8}, 64 + 8 * 8 * 8),
        ("rwkv7", {}, 64 + 4 * 16 * 16),
        ("rwkv_channel_mix", {}, 64),
        ("spiking_lif", {"neurons": 100}, 100),
    ],
)
def test_state_bytes(
    name: str, params: dict[str, Any], numbers: int, context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    assert cls.state_bytes(cls.Params(**params), context_for(name)) == 4 * numbers
    assert cls.state_bytes_per_token(cls.Params(**params), context_for(name)) == 0
