"""Kernels of mamba-ssm and causal-conv1d behind our own functions, where a GPU and these packages are there.

https://github.com/state-spaces/mamba has the selective scan and Mamba-2's SSD,
https://github.com/Dao-AILab/causal-conv1d the short convolution. fla's are in ``token_mixers/fla_kernels.py``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Name = Literal["selective_scan", "ssd", "convolution"]

PACKAGES: dict[Name, tuple[str, str]] = {
    "selective_scan": ("mamba_ssm", "mamba-ssm"),
    "ssd": ("mamba_ssm", "mamba-ssm"),
    "convolution": ("causal_conv1d", "causal-conv1d"),
}
"""The package of each kernel, as it is imported and as it is installed."""

LARGEST_STATE = 256
"""States of a feature that the selective scan's kernel can hold."""


@functools.cache
def missing(name: Name) -> str:
    """Return what keeps a kernel from running here, as a sentence; empty where it can."""
    package, project = PACKAGES[name]
    if not torch.cuda.is_available():
        return f"{project}'s kernels need a GPU that torch can use"
    if importlib.util.find_spec(package) is None:
        return (
            f"{project}'s kernels need the package: pip install --no-build-isolation {project}, "
            "which is compiled for this machine's CUDA"
        )
    return ""


def told() -> dict[str, str]:
    """Say of each package in a sentence whether its kernels run on this machine, and if not, why."""
    return {
        project: missing(name) or f"{project}'s kernels run on the GPU"
        for name, (_, project) in PACKAGES.items()
    }


def kernel_for(name: Name, *tensors: Tensor) -> Callable[..., Tensor] | None:
    """Return a kernel that takes these tensors as our own form does; None where that one is to run.

    The first tensor is the sequence; ``ssd`` takes rates of decay (H) in place of the decays themselves.
    """
    # Fake tensors are subclasses; kernels need real memory.
    first = tensors[0]
    if not first.is_cuda or type(first) is not Tensor or torch.compiler.is_compiling():
        return None
    if missing(name) or not first.numel() or not _FITS[name](*tensors):
        return None
    return _KERNELS[name]


def _scan_fits(x_BLE: Tensor, rate_NE: Tensor) -> bool:
    return x_BLE.dtype == torch.float32 and rate_NE.shape[0] <= LARGEST_STATE


def _ssd_fits(x_BLHP: Tensor) -> bool:
    return x_BLHP.dtype in (torch.float32, torch.bfloat16, torch.float16)


def _convolution_fits(x_BLD: Tensor, taps_DK: Tensor) -> bool:
    """Say whether the kernel has as many taps, and reads features in rows of eight."""
    features, kernel = taps_DK.shape
    return 2 <= kernel <= 4 and features % 8 == 0 and x_BLD.dtype != torch.float64


def _selective_scan(
    x_BLE: Tensor, dt_BLE: Tensor, rate_NE: Tensor, write_BLN: Tensor, read_BLN: Tensor
) -> Tensor:
    """Compute ``selective_scan.selective_scan`` with features first, as the kernel has them."""
    scan = _function("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn")
    x_BEL, dt_BEL, write_BNL, read_BNL = (
        part.transpose(1, 2).contiguous() for part in (x_BLE, dt_BLE, write_BLN, read_BLN)
    )
    return scan(x_BEL, dt_BEL, rate_NE.T.contiguous(), write_BNL, read_BNL).transpose(1, 2)


def _ssd(
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    rate_H: Tensor,
    write_BLGS: Tensor,
    read_BLGS: Tensor,
    chunk: int,
) -> Tensor:
    """Compute ``ssd_chunks.ssd`` with decays dt A; the kernel's chunks are powers of two from 16 to 256."""
    scan = _function("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")
    chunk = 1 << (min(max(chunk, 16), 256) - 1).bit_length()
    x_BLHP, write_BLGS, read_BLGS = (
        part.to(x_BLHP.dtype).contiguous() for part in (x_BLHP, write_BLGS, read_BLGS)
    )
    return scan(x_BLHP, dt_BLH.contiguous(), rate_H, write_BLGS, read_BLGS, chunk)


def _convolution(x_BLD: Tensor, taps_DK: Tensor, bias_D: Tensor | None) -> Tensor:
    """Compute a causal ``DepthwiseConv``; the kernel reads (B, D, L) whose features lie side by side."""
    convolve = _function("causal_conv1d", "causal_conv1d_fn")
    if torch.is_autocast_enabled(x_BLD.device.type):
        x_BLD = x_BLD.to(torch.get_autocast_dtype(x_BLD.device.type))
    # Flattened, because a batch or a length of one may keep any stride, and the kernel asks for multiples of eight.
    plain_BLD = torch.unflatten(x_BLD.contiguous().flatten(), 0, x_BLD.shape)
    return convolve(plain_BLD.transpose(1, 2), taps_DK, bias_D).transpose(1, 2)


def _function(module: str, name: str) -> Callable[..., Tensor]:
    found: Callable[..., Tensor] = getattr(importlib.import_module(module), name)
    return found


_FITS: dict[Name, Callable[..., bool]] = {
    "selective_scan": _scan_fits,
    "ssd": _ssd_fits,
    "convolution": _convolution_fits,
}
_KERNELS: dict[Name, Callable[..., Tensor]] = {
    "selective_scan": _selective_scan,
    "ssd": _ssd,
    "convolution": _convolution,
}
