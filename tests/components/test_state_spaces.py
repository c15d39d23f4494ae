"""State spaces and diagonal recurrences: their scans at any decay, fused and plain, and components at their limits."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from hybridlab.components import fused_scans
from hybridlab.components.base import BuildContext, Component
from hybridlab.components.diagonal_scan import diagonal_scan
from hybridlab.components.registry import palette
from hybridlab.components.selective_scan import selective_scan

Build = Callable[..., Component]
ContextFor = Callable[..., BuildContext]

LENGTHS = [1, 2, 31, 32, 33, 64, 150]
DECAYS = {
    "keeps all": [1.0],
    "forgets all": [0.0],
    "keeps or forgets": [1.0, 1.0, 1.0, 0.0],
    "every size": [1.0, 0.999999, 0.9, 0.05, 1e-7, 1e-11, 1e-38, 0.0],
}


@pytest.fixture(params=["fused", "plain"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test in both forms of the scans."""
    if request.param == "plain":
        monkeypatch.setenv(fused_scans.SWITCH, "0")
    elif fused_scans.fused_scans().library is None:
        pytest.skip(fused_scans.which_scan())
    return str(request.param)


def _close(got: Tensor, want: Tensor, tolerance: float, what: str) -> None:
    got, want = got.detach(), want.detach()
    assert got.isfinite().all(), f"{what} is not finite"
    wide = torch.complex128 if want.is_complex() else torch.float64
    error = float((got.to(wide) - want).norm() / want.norm().clamp(min=1.0))
    assert error < tolerance, f"{what} is off by {error}"


def _compare(
    scan: Callable[..., Tensor], loop: Callable[..., Tensor], leaves: list[Tensor]
) -> None:
    """Compare a scan and all its gradients with a loop in double precision."""
    given = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    wide = torch.complex128 if leaves[0].is_complex() else torch.float64
    exact = [leaf.detach().to(wide).requires_grad_() for leaf in leaves]
    got, want = scan(*given), loop(*exact)
    _close(got, want, 1e-5, "output")
    direction = torch.randn(got.shape, dtype=got.dtype)
    got_grads = torch.autograd.grad(got, given, direction)
    want_grads = torch.autograd.grad(want, exact, direction.to(wide))
    for index, (a, b) in enumerate(zip(got_grads, want_grads, strict=True)):
        _close(a, b, 1e-4, f"gradient {index}")


def _diagonal_loop(decay: Tensor, update: Tensor) -> Tensor:
    state, rows = torch.zeros_like(update[:, 0]), []
    for a, b in zip(decay.unbind(1), update.unbind(1), strict=True):
        state = a * state + b
        rows.append(state)
    return torch.stack(rows, 1)


def _selective_loop(x: Tensor, dt: Tensor, rate: Tensor, write: Tensor, read: Tensor) -> Tensor:
    state, rows = x.new_zeros(x.shape[0], *rate.shape), []
    for x_BE, dt_BE, write_BN, read_BN in zip(
        *(part.unbind(1) for part in (x, dt, write, read)), strict=True
    ):
        driven_BNE = (dt_BE * x_BE).unsqueeze(1) * write_BN.unsqueeze(2)
        state = torch.exp(dt_BE.unsqueeze(1) * rate) * state + driven_BNE
        rows.append((read_BN.unsqueeze(2) * state).sum(1))
    return torch.stack(rows, 1)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_diagonal_scan(form: str, dtype: torch.dtype, length: int) -> None:
    """A batch of 2 steps in chunks, 200 sequences of 100 features step together."""
    for batch, features in ((2, 3), (3, 300), (200, 100)):
        if batch > 3 and length > 33:
            continue
        decay = torch.rand(batch, length, features).to(dtype)
        if dtype.is_complex:
            decay = decay * torch.polar(torch.ones_like(decay.real), torch.randn(decay.shape))
        _compare(diagonal_scan, _diagonal_loop, [decay, torch.randn(decay.shape, dtype=dtype)])


@pytest.mark.parametrize("kind", DECAYS)
def test_diagonal_scan_at_any_decay(form: str, kind: str) -> None:
    choices = torch.tensor(DECAYS[kind])
    decay = choices[torch.randint(len(choices), (2, 150, 5))]
    _compare(diagonal_scan, _diagonal_loop, [decay, torch.randn(decay.shape)])


def test_diagonal_scan_of_one_decay_for_all_positions(form: str) -> None:
    decay, update = torch.rand(5).requires_grad_(), torch.randn(2, 70, 5)
    h = diagonal_scan(decay.expand_as(update), update)
    torch.testing.assert_close(h, _diagonal_loop(decay.expand_as(update), update))
    h.sum().backward()
    assert decay.grad is not None and decay.grad.shape == (5,)


def _selective_inputs(
    length: int, features: int = 70, states: int = 3, batch: int = 3
) -> list[Tensor]:
    return [
        torch.randn(batch, length, features),
        torch.rand(batch, length, features),
        -torch.rand(states, features) * 3,
        torch.randn(batch, length, states),
        torch.randn(batch, length, states),
    ]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_selective_scan(form: str, dtype: torch.dtype, length: int) -> None:
    """Seventy features fill tiles of any processor and leave some over."""
    leaves = [leaf.to(dtype) for leaf in _selective_inputs(length)]
    _compare(selective_scan, _selective_loop, leaves)


def test_selective_scan_takes_sequences_that_do_not_fit_the_cache_apart(form: str) -> None:
    _compare(selective_scan, _selective_loop, _selective_inputs(40, features=600, states=16))


@pytest.mark.parametrize("rates", [[0.0], [-1e4], [-1e30], [0.0, -1e-6, -1.0, -85.0, -90.0, -1e4]])
def test_selective_scan_at_any_decay(form: str, rates: list[float]) -> None:
    leaves = _selective_inputs(100)
    choices = torch.tensor(rates)
    leaves[2] = choices[torch.randint(len(choices), (3, 70))]
    _compare(selective_scan, _selective_loop, leaves)


def test_both_forms_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    if fused_scans.fused_scans().library is None:
        pytest.skip(fused_scans.which_scan())
    leaves = _selective_inputs(200, features=96, states=16)
    fused = selective_scan(*leaves)
    monkeypatch.setenv(fused_scans.SWITCH, "0")
    torch.testing.assert_close(fused, selective_scan(*leaves), rtol=1e-5, atol=1e-5)


def test_results_repeat_bit_by_bit_with_two_threads(form: str) -> None:
    threads = torch.get_num_threads()
    leaves = [leaf.requires_grad_() for leaf in _selective_inputs(256, features=128, states=16)]
    torch.set_num_threads(2)
    try:
        first, second = (
            torch.autograd.grad(selective_scan(*leaves).sum(), leaves) for _ in range(2)
        )
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_operations_without_data_are_those_with_data() -> None:
    def count(leaves: list[Tensor]) -> int:
        given = [leaf.requires_grad_() for leaf in leaves]
        with FlopCounterMode(display=False) as counter:
            selective_scan(*given).sum().backward()
            diagonal_scan(given[1], given[0]).sum().backward()
        return counter.get_total_flops()

    real = count(_selective_inputs(64))
    with FakeTensorMode():
        fake = count(_selective_inputs(64))
    assert fake == real == 3 * 64 * 70 * (3 * 26 + 5)


def test_mamba_keeps_no_states(build: Build) -> None:
    """What backward needs grows with L x E, not with L x E x N."""
    kept = []
    for state in (16, 128):
        module, sizes = build("mamba", state=state), {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: (sizes.update({x.data_ptr(): x.numel()}), x)[1], lambda x: x
        ):
            module(torch.randn(1, 512, 64))
        kept.append(sum(sizes.values()))
    assert kept[1] < 2.5 * kept[0]


def test_it_says_which_form_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    said = fused_scans.which_scan()
    if shutil.which("c++"):
        assert said == "Scans on the CPU run fused, compiled by c++ for this processor."
        assert [path.suffix for path in (tmp_path / "kernels").iterdir()] == [".so"]
    monkeypatch.setenv(fused_scans.SWITCH, "0")
    assert fused_scans.which_scan() == "Scans run in plain PyTorch: HYBRIDLAB_FUSED_SCANS is 0."


def test_no_compiler_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert fused_scans.which_scan() == (
        "Scans run in plain PyTorch: there is no C++ compiler (c++, g++ or clang++); one would make them faster."
    )
    _compare(selective_scan, _selective_loop, _selective_inputs(5))


@pytest.mark.parametrize("script", ["exit 1", "echo 'x: error: no disk' >&2; exit 1", "true"])
def test_a_compiler_that_fails_is_no_error(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "broken"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", str(compiler))
    said = fused_scans.which_scan()
    assert said.startswith(f"Scans run in plain PyTorch: {compiler} could not compile the fused")
    assert said.endswith("x: error: no disk.") is ("no disk" in script)
    _compare(selective_scan, _selective_loop, _selective_inputs(5))


def test_a_home_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "file"))
    assert fused_scans.which_scan().startswith("Scans run in plain PyTorch: ")


@pytest.mark.parametrize(
    ("name", "weight", "value"),
    [
        *[("mamba", "project_step.bias", v) for v in (-200.0, 60.0)],
        *[("mamba", "log_rate", v) for v in (-60.0, 40.0)],
        *[("mamba2", "log_rate", v) for v in (-60.0, 40.0)],
        *[("rg_lru", "decay", v) for v in (-60.0, 60.0)],
        *[("rg_lru", "gate_bias", v) for v in (-60.0, 60.0)],
        *[("min_gru", "project_in.bias", v) for v in (-150.0, 150.0)],
        *[("min_lstm", "project_in.bias", v) for v in (-150.0, 150.0)],
        *[("lru", "nu", v) for v in (-40.0, 5.0)],
        *[("s4d", "log_rate", v) for v in (-12.0, 15.0)],
        *[("s4d", "log_step", v) for v in (-40.0, 8.0)],
    ],
)
def test_extreme_weights_give_finite_values_and_gradients(
    name: str, weight: str, value: float, form: str, build: Build
) -> None:
    module = build(name, width=16)
    with torch.no_grad():
        module.get_parameter(weight).fill_(value)
    x = torch.randn(2, 70, 16, requires_grad=True)
    y = module(x)
    y.square().mean().backward()
    assert y.isfinite().all()
    for what, leaf in [*module.named_parameters(), ("input", x)]:
        assert leaf.grad is not None and leaf.grad.isfinite().all(), what
    with torch.no_grad():
        want = copy.deepcopy(module).double().reference(x.double())
    torch.testing.assert_close(y.double(), want, rtol=2e-4, atol=2e-4)


def test_the_slope_of_the_root_is_bounded(build: Build) -> None:
    """At a decay of one, the slope of sqrt(1 - a^2) is infinite, and half of it is what a gradient would be times 0."""
    module = build("rg_lru", width=16)
    with torch.no_grad():
        module.get_parameter("decay").fill_(-200.0)
    module(torch.randn(2, 9, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("frequencies", ["lin", "inv"])
def test_s4d_kernel_is_the_formula_on_long_sequences(frequencies: str, build: Build) -> None:
    module: Any = build("s4d", width=8, state=64, frequencies=frequencies)
    length = 5000
    step = module.log_step.double().exp().unsqueeze(-1)
    rate = torch.complex(-module.log_rate.double().exp(), module.frequency.double())
    read = torch.view_as_complex(module.read.double())
    weight = 2 * read * (torch.exp(step * rate) - 1) / rate
    powers = torch.exp((step * rate).unsqueeze(-1) * torch.arange(length))
    want = (weight.unsqueeze(-1) * powers).sum(1).real
    _close(module._kernel(length), want, 2e-6, "kernel")


def test_a_gru_that_writes_all_passes_its_candidate_on(build: Build) -> None:
    module = build("min_gru", width=16, positive=False)
    with torch.no_grad():
        module.get_parameter("project_in.bias")[:16] = 100.0
    x = torch.randn(2, 9, 16)
    candidate = F.linear(x, *(p[16:] for p in module.parameters()))
    torch.testing.assert_close(module(x), candidate)


def test_min_lstm_with_opposite_gates_is_min_gru(build: Build) -> None:
    """f = sigmoid(-k) and i = sigmoid(k) add up to one, so that f' = f and i' = i."""
    gru, lstm = build("min_gru", width=16), build("min_lstm", width=16)
    with torch.no_grad():
        for ours, theirs in zip(lstm.parameters(), gru.parameters(), strict=True):
            gate, candidate = theirs.chunk(2)
            ours.copy_(torch.cat((-gate, gate, candidate)))
    x = torch.randn(2, 30, 16)
    torch.testing.assert_close(lstm(x), gru(x))


def test_mamba_with_equal_rates_is_mamba2_with_heads_of_one_feature() -> None:
    """Where a feature's rates are all the same, its selective scan is a head of Mamba-2's."""
    from hybridlab.components.token_mixers.ssd_chunks import ssd

    x, dt, rate, write, read = _selective_inputs(50, features=6)
    rate_E = rate[0]
    got = selective_scan(x, dt, rate_E.expand(3, 6), write, read)
    heads = ssd(x.unsqueeze(-1), dt, dt * rate_E, write.unsqueeze(2), read.unsqueeze(2), 16)
    torch.testing.assert_close(got, heads.squeeze(-1), rtol=1e-4, atol=1e-5)


def test_steps_of_mamba2_stay_within_their_limits(build: Build) -> None:
    module: Any = build("mamba2", width=16, step_min=0.01, step_max=0.2)
    dt, log_decay = module._steps(torch.tensor([[[-50.0, -3.0, 0.0, 50.0]]]))
    assert dt.min() == torch.tensor(0.01) and dt.max() == torch.tensor(0.2)
    torch.testing.assert_close(log_decay, -dt * module.log_rate.exp())


REFUSED: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "mamba2",
        {"norm_groups": 3},
        [
            "norm_groups: 3 does not divide the inner features, 128 (expected a divisor of 128, got 3); try 2 or 4"
        ],
    ),
    ("mamba2", {"norm_groups": 3, "norm": "none"}, []),
    ("mamba2", {"heads": 3, "head_dim": 5}, []),
    (
        "mamba2",
        {"step_min": 0.1, "step_max": 0.05},
        [
            "step_max: the largest step is smaller than the smallest (expected at least 0.1, got 0.05); "
            "raise step_max or lower step_min"
        ],
    ),
    (
        "rg_lru",
        {"heads": 5},
        ["heads: 5 does not divide width 64 (expected a divisor of 64, got 5); try 4 or 8"],
    ),
    (
        "rg_lru",
        {"heads": 5, "hidden": 12},
        ["heads: 5 does not divide hidden 12 (expected a divisor of 12, got 5); try 4 or 6"],
    ),
    (
        "lru",
        {"smallest": 0.99, "largest": 0.9},
        [
            "largest: the ring of decays is empty (expected more than 0.99, got 0.9); "
            "raise largest or lower smallest"
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


STATES: list[tuple[str, dict[str, Any], float]] = [
    # name, parameters, bytes that stay; width 64, float32
    ("mamba", {}, (16 + 3) * 128 * 4),
    ("mamba2", {"heads": 3, "head_dim": 5}, (16 * 15 + 3 * (15 + 32)) * 4),
    ("rg_lru", {"hidden": 12}, (1 + 3) * 12 * 4),
    ("min_gru", {}, 64 * 4),
    ("min_lstm", {"hidden": 10}, 10 * 4),
    ("lru", {}, 2 * 64 * 4),
    ("s4d", {}, 2 * 64 * 32 * 4),
]


@pytest.mark.parametrize(("name", "params", "fixed"), STATES)
def test_state_bytes(
    name: str, params: dict[str, Any], fixed: float, context_for: ContextFor
) -> None:
    cls = palette()[name].cls
    assert cls.state_bytes_per_token(cls.Params(**params), context_for(name)) == 0
    assert cls.state_bytes(cls.Params(**params), context_for(name)) == fixed
