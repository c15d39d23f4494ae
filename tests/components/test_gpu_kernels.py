"""Other packages' kernels behind our functions: which run where, and that they are given what they ask for.

There is no GPU where most of these tests run, so stand-ins take the kernels' places, written from the packages'
descriptions of their arguments and strict about what the kernels are strict about. On a GPU with the packages
the last test compares the kernels themselves.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.components import depthwise, gpu_kernels, selective_scan
from hybridlab.components.base import Component
from hybridlab.components.gpu_kernels import Name, kernel_for, missing
from hybridlab.components.token_mixers import fla_kernels, mamba2, rwkv7_chunks
from tests.components.recurrences import agree, dplr, with_grads

Build = Callable[..., Component]

ASKS_FOR: dict[Name, Any] = {
    "selective_scan": selective_scan,
    "ssd": mamba2,
    "convolution": depthwise,
}
"""Where each kernel is asked for."""
LAYERS: list[tuple[Name, str, dict[str, Any]]] = [
    ("selective_scan", "mamba", {"state": 5}),
    ("ssd", "mamba2", {"state": 5, "heads": 4, "groups": 2, "chunk": 20, "step_max": 0.05}),
    ("convolution", "mamba2", {"conv": 3, "conv_bias": False}),
    ("convolution", "short_conv", {"kernel": 4}),
]


def selective_scan_fn(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Take u and delta (B, D, L), A (D, N), B and C (B, N, L), as mamba-ssm does."""
    for part in (u, delta, A, B, C):
        assert part.dtype == torch.float32 and 1 in (part.stride(-1), part.shape[-1])
    state, rows = torch.zeros(*u.shape[:2], A.shape[1]), []
    for u_t, d_t, b_t, c_t in zip(*(part.unbind(2) for part in (u, delta, B, C)), strict=True):
        written = (d_t * u_t)[..., None] * b_t[:, None]
        state = (d_t[..., None] * A).exp() * state + written
        rows.append((state * c_t[:, None]).sum(-1))
    return torch.stack(rows, 2)


def mamba_chunk_scan_combined(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int
) -> Tensor:
    """Take x (B, L, H, P), dt (B, L, H), A (H), B and C (B, L, G, N), as mamba-ssm does."""
    assert A.shape == x.shape[2:3] and chunk_size == 32 and x.is_contiguous()
    heads = x.shape[2] // B.shape[2]
    B, C = (part.repeat_interleave(heads, 2) for part in (B, C))
    state, rows = torch.zeros(len(x), *x.shape[2:], B.shape[3]), []
    for x_t, dt_t, b_t, c_t in zip(*(part.unbind(1) for part in (x, dt, B, C)), strict=True):
        written = (dt_t[..., None] * x_t)[..., None] * b_t[:, :, None]
        state = (dt_t * A).exp()[..., None, None] * state + written
        rows.append((state * c_t[:, :, None]).sum(-1))
    return torch.stack(rows, 1)


def causal_conv1d_fn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Take x (B, D, L) with features side by side and the weight (D, K), as causal-conv1d does."""
    assert (
        x.stride(1) == 1 and x.stride(2) % 8 == 0 and x.stride(0) % 8 == 0 and x.shape[1] % 8 == 0
    )
    kernel = weight.shape[1]
    assert 2 <= kernel <= 4 and (bias is None or bias.dtype == weight.dtype)
    y = F.conv1d(x, weight.to(x.dtype)[:, None], padding=kernel - 1, groups=len(weight))
    y = y[..., : x.shape[2]]
    return y if bias is None else y + bias.to(y.dtype)[:, None]


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put these three where the packages' functions are imported from."""
    for name, function in (
        ("mamba_ssm.ops.selective_scan_interface", selective_scan_fn),
        ("mamba_ssm.ops.triton.ssd_combined", mamba_chunk_scan_combined),
        ("causal_conv1d", causal_conv1d_fn),
    ):
        module = ModuleType(name)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, name, module)


def _chosen(wanted: Name, used: list[str]) -> Callable[..., Any]:
    """Return what chooses one kernel where it fits, as if its tensors were on a GPU, and notes that it did."""

    def choose(name: Name, *tensors: Tensor) -> Any:
        if name != wanted or not gpu_kernels._FITS[name](*tensors):
            return None
        used.append(name)
        return gpu_kernels._KERNELS[name]

    return choose


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(("batch", "length"), [(2, 41), (1, 9), (3, 1)])
@pytest.mark.parametrize(("kernel", "name", "params"), LAYERS)
def test_layers_hand_kernels_what_they_ask_for(
    kernel: Name,
    name: str,
    params: dict[str, Any],
    batch: int,
    length: int,
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, x = build(name, width=16, **params), torch.randn(batch, length, 16)
    leaves = [x, *module.parameters()]

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        names = [name for name, _ in module.named_parameters()]
        y: Tensor = torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (x,))
        return y

    want = with_grads(run, leaves, torch.float32)
    used: list[str] = []
    monkeypatch.setattr(ASKS_FOR[kernel], "kernel_for", _chosen(kernel, used))
    agree(with_grads(run, leaves, torch.float32), want, 1e-4)
    assert used == [kernel]


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("params", [{"kernel": 5}, {"causal": False}, {"gated": False}])
def test_what_a_kernel_cannot_take_runs_plainly(
    params: dict[str, Any], build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = 16 if "gated" not in params else 12  # features of the convolution, not in rows of eight
    used: list[str] = []
    module = build("short_conv", width=width, **params)
    monkeypatch.setattr(depthwise, "kernel_for", _chosen("convolution", used))
    module(torch.randn(2, 9, width))
    assert used == []


def test_no_kernel_is_chosen_here_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_for("convolution", torch.zeros(2, 9, 8), torch.zeros(8, 4)) is None
    if not torch.cuda.is_available():
        assert missing("ssd") == "mamba-ssm's kernels need a GPU that torch can use"
        assert set(gpu_kernels.told()) == {"mamba-ssm", "causal-conv1d"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = missing.__wrapped__("convolution")
    assert "pip install --no-build-isolation causal-conv1d" in reason
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert missing.__wrapped__("convolution") == ""


def chunk_rwkv7(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    scale: float,
    lower_bound: float,
) -> tuple[Tensor, None]:
    """Take all as (B, L, H, K) in 16 bits but for the logarithms of decays, as fla does; give 16 bits."""
    assert all(part.is_contiguous() for part in (r, w, k, v, a, b)) and scale == 1.0
    assert {part.dtype for part in (r, k, v, a, b)} == {torch.bfloat16} and w.dtype == torch.float32
    assert lower_bound <= float(w.detach().min()) and float(w.detach().max()) < 0
    return dplr(*(part.float() for part in (r, k, v, a, b, w))).to(r.dtype), None


@pytest.fixture
def fla_stand_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put the stand-in where fla's function is imported from, as if on a GPU; return the list of its uses."""
    used: list[str] = []

    def noted(**given: Any) -> tuple[Tensor, None]:
        used.append("rwkv7")
        return chunk_rwkv7(**given)

    module = ModuleType("fla.ops.rwkv7")
    module.chunk_rwkv7 = noted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fla.ops.rwkv7", module)
    monkeypatch.setattr(rwkv7_chunks, "kernel_of", lambda tensor: "fla")
    return used


@pytest.mark.parametrize(("batch", "length"), [(2, 41), (3, 1)])
def test_rwkv7_hands_its_kernel_what_it_asks_for(
    batch: int, length: int, build: Build, fla_stand_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = build("rwkv7", width=16, heads=2), torch.randn(batch, length, 16)
    leaves = [x, *module.parameters()]

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        names = [name for name, _ in module.named_parameters()]
        with torch.autocast("cpu", torch.bfloat16):
            y: Tensor = torch.func.functional_call(
                module, dict(zip(names, weights, strict=True)), (x,)
            )
        return y.float()

    got = with_grads(run, leaves, torch.float32)
    assert fla_stand_in == ["rwkv7"]
    monkeypatch.setattr(rwkv7_chunks, "kernel_of", lambda tensor: "plain")
    want = with_grads(run, leaves, torch.float32)
    for mine, plain in zip(got, want, strict=True):  # 16 bits keep two to three digits
        assert (mine - plain).norm() <= 0.03 * plain.norm() + 1e-3
    assert fla_stand_in == ["rwkv7"]


@pytest.mark.parametrize(("size", "dtype"), [(8, torch.float32), (264, torch.bfloat16)])
def test_rwkv7_runs_plainly_in_float32_and_with_heads_too_wide(
    size: int, dtype: torch.dtype, fla_stand_in: list[str]
) -> None:
    r, k, v, a, b = (torch.randn(1, 5, 1, size) for _ in range(5))
    rwkv7_chunks.rwkv7(r, k, v, a, b, -torch.rand(1, 5, 1, size) / 2, 8, dtype)
    assert fla_stand_in == []


@pytest.mark.gpu
@pytest.mark.skipif(bool(fla_kernels.missing()), reason=fla_kernels.missing() or "fla is there")
def test_flas_rwkv7_computes_the_same(build: Build) -> None:
    module, x = build("rwkv7", width=64, heads=2).cuda(), torch.randn(2, 100, 64, device="cuda")
    plain = module.double().reference(x.double())
    with torch.autocast("cuda", torch.bfloat16):
        got = module.float()(x)
    assert (got - plain).norm() < 0.03 * plain.norm()


@pytest.mark.gpu
@pytest.mark.parametrize(("kernel", "name", "params"), LAYERS)
def test_kernels_compute_the_same(
    kernel: Name, name: str, params: dict[str, Any], build: Build
) -> None:
    if missing(kernel):
        pytest.skip(missing(kernel))
    module, x = build(name, width=64, **params).cuda(), torch.randn(2, 100, 64, device="cuda")
    plain = module.double().reference(x.double())
    got = module.float()(x)
    assert (got - plain).norm() < 0.01 * plain.norm()
