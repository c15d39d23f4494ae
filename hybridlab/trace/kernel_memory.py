"""Memory that a kernel takes for itself, or gives out without saying so on fake tensors, learned by running it once.

Only for kernels that are known for it: convolutions and Fourier transforms lay their tensors out anew, attention works
in blocks, norms and scans first copy what does not lie in one piece, sorting has a second buffer, counting widens,
oneDNN's products of 16-bit numbers lay matrices out anew where that pays, and its LSTM packs its weights at every call
and gives a workspace that its fake form leaves empty. One call on zeros
of the same shapes tells; it is kept for the process.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

_LSTM, _LSTM_BACKWARD = "aten::mkldnn_rnn_layer", "aten::mkldnn_rnn_layer_backward"
_KNOWN = {
    _LSTM,
    _LSTM_BACKWARD,
    "aten::convolution",
    "aten::convolution_backward",
    "aten::_fft_r2c",
    "aten::_fft_c2r",
    "aten::_fft_c2c",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    "aten::native_layer_norm",
    "aten::native_layer_norm_backward",
    "aten::log_sigmoid_forward",
    "aten::binary_cross_entropy_with_logits",
    "aten::sort",
    "aten::topk",
    "hybridlab::diagonal_scan",
    "hybridlab::diagonal_scan_backward",
    "hybridlab::selective_scan",
    "hybridlab::selective_scan_backward",
    "hybridlab::rows_convolution",
    "hybridlab::rows_convolution_backward",
}
_SAME = (
    "reverse",
    "batch_sizes",
    "mode",
    "hidden_size",
    "num_layers",
    "has_biases",
    "bidirectional",
    "batch_first",
    "train",
)
"""What the LSTM's backward is told as its forward is."""
_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}
_SHORT = (torch.bfloat16, torch.float16)
"""Formats whose products oneDNN computes, where the processor has instructions for them."""
_WIDENS = {"aten::sum", "aten::cumsum", "aten::prod"}
"""Kernels that first widen what they add up, where these are not floating-point numbers."""


@dataclass(frozen=True)
class KernelMemory:
    """Bytes of each tensor that comes out, and the most that the kernel holds beside them."""

    output_bytes: tuple[int, ...]
    scratch_bytes: int


@dataclass(frozen=True)
class _Described:
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


def kernel_memory(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> KernelMemory | None:
    """Return what a call takes, or None for kernels that take nothing of their own."""
    first = args[0] if args else None
    if not isinstance(first, Tensor) or first.device.type != "cpu":
        return None
    name = func._schema.name
    widens = name in _WIDENS and not (first.is_floating_point() or first.is_complex())
    packs = name in _PRODUCTS and first.dtype in _SHORT
    if name not in _KNOWN and not widens and not packs:
        return None
    named = tuple((key, _described(given)) for key, given in (kwargs or {}).items())
    return _learned(func, tuple(map(_described, args)), named)


def workspace_bytes(func: Any, args: tuple[Any, ...]) -> int:
    """Return the bytes of what a kernel keeps for its backward where its fake form shows nothing; 0 for others."""
    if func._schema.name != _LSTM or args[0].device.type != "cpu":
        return 0
    return _workspace(func, tuple(map(_described, args)))


@functools.lru_cache(maxsize=256)
def _workspace(func: Any, described: tuple[Any, ...]) -> int:
    with _disable_current_modes(), torch.enable_grad():
        workspace = func(*map(_real, described))[-1]
    return 0 if workspace is None else int(workspace.untyped_storage().nbytes())


def _described(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return _Described(tuple(leaf.shape), tuple(leaf.stride()), leaf.dtype)
    return tuple(leaf) if isinstance(leaf, list) else leaf


def _real(leaf: Any) -> Any:
    if isinstance(leaf, _Described):
        reach = sum((n - 1) * step for n, step in zip(leaf.shape, leaf.strides, strict=True))
        count = reach + 1 if 0 not in leaf.shape else 0
        return torch.zeros(count, dtype=leaf.dtype).as_strided(leaf.shape, leaf.strides)
    return list(leaf) if isinstance(leaf, tuple) else leaf


@functools.lru_cache(maxsize=1024)
def _learned(
    func: Any, described: tuple[Any, ...], named: tuple[tuple[str, Any], ...]
) -> KernelMemory:
    with _disable_current_modes(), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        args, kwargs = [_real(leaf) for leaf in described], {key: _real(x) for key, x in named}
        if func._schema.name == _LSTM_BACKWARD:
            args[-1] = _lstm_workspace(func, args)
        there = {_storage(leaf) for leaf in tree_leaves([args, kwargs]) if isinstance(leaf, Tensor)}
        with torch.profiler.profile(
            activities=[ProfilerActivity.CPU], profile_memory=True
        ) as profiler:
            out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        given = tuple(tensor.untyped_storage().nbytes() for tensor in made)
        new = {_storage(t): t.untyped_storage().nbytes() for t in made if _storage(t) not in there}
    assert profiler.profiler is not None
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]"
    )
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return KernelMemory(given, max(0, most - sum(new.values())))


def _lstm_workspace(backward: Any, args: list[Any]) -> Any:
    """Return the workspace of the forward that a backward belongs to, which fake tensors do not have."""
    names = [argument.name for argument in backward._schema.arguments]
    named = dict(zip(names, args, strict=False))
    forward = [*args[:7], *(named[name] for name in _SAME)]
    return torch.ops.aten.mkldnn_rnn_layer.default(*forward)[-1]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
