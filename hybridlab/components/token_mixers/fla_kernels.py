"""fla's Triton kernels behind ``recall`` and ``rwkv7``, where a GPU and the package are there (extra ``gpu``).

https://github.com/fla-org/flash-linear-attention
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

KERNELS = {
    # decays of: nothing, a head, each feature of the key; without and with the delta rule
    ("none", False): ("fla.ops.simple_gla", "chunk_simple_gla"),
    ("head", False): ("fla.ops.simple_gla", "chunk_simple_gla"),
    ("feature", False): ("fla.ops.gla", "chunk_gla"),
    ("none", True): ("fla.ops.delta_rule", "chunk_delta_rule"),
    ("head", True): ("fla.ops.gated_delta_rule", "chunk_gated_delta_rule"),
    ("feature", True): ("fla.ops.kda", "chunk_kda"),
}

RWKV7 = ("fla.ops.rwkv7", "chunk_rwkv7")
RWKV7_DTYPES = (torch.bfloat16, torch.float16)
"""fla itself warns of float32 with this kernel: on some platforms it is wrong."""
LARGEST_RWKV7_HEAD = 256
"""Features of a head that this kernel can hold."""


@functools.cache
def missing() -> str:
    """Return what keeps fla's kernels from running here, as a sentence; empty where they can."""
    if not torch.cuda.is_available():
        return "fla's kernels need a GPU that torch can use"
    for package in ("fla", "triton"):
        if importlib.util.find_spec(package) is None:
            return f"fla's kernels need the package {package}: pip install 'hybridlab[gpu]'"
    return ""


def recall(
    q_BLHK: Tensor,
    k_BLHK: Tensor,
    v_BLHV: Tensor,
    log_decay: Tensor | None,
    beta_BLH: Tensor | None,
) -> Tensor:
    """Compute ``matrix_memory.recall`` with fla's kernel for that kind of decay."""
    given = {"q": q_BLHK, "k": k_BLHK, "v": v_BLHV}
    given = {name: part.to(v_BLHV.dtype).contiguous() for name, part in given.items()}
    kind = "none"
    if log_decay is not None:
        if log_decay.dim() == 1:
            log_decay = log_decay.expand(*v_BLHV.shape[:3])
        kind = "head" if log_decay.dim() == 3 else "feature"
        given["g"] = log_decay.float().contiguous()
    if beta_BLH is not None:
        given["beta"] = beta_BLH.to(v_BLHV.dtype).contiguous()
    o_BLHV: Tensor = _kernel(KERNELS[kind, beta_BLH is not None])(**given, scale=1.0)[0]
    return o_BLHV


def rwkv7(parts: Sequence[Tensor], dtype: torch.dtype, smallest_log_decay: float) -> Tensor:
    """Compute ``rwkv7_chunks.rwkv7`` with fla's kernel, in 16 bits but for the decays.

    Args:
        parts: r, k, v, a, b and log decays (B, L, H, K), as ``rwkv7_chunks`` has them.
        dtype: one of ``RWKV7_DTYPES``.
        smallest_log_decay: what no decay falls below; knowing it, the kernel takes larger chunks.
    """
    *given, log_decay_BLHK = parts
    r, k, v, a, b = (part.to(dtype).contiguous() for part in given)
    w = log_decay_BLHK.float().contiguous()
    kernel = _kernel(RWKV7)
    o_BLHV: Tensor = kernel(
        r=r, w=w, k=k, v=v, a=a, b=b, scale=1.0, lower_bound=smallest_log_decay
    )[0]
    return o_BLHV


def _kernel(place: tuple[str, str]) -> Callable[..., tuple[Tensor, Tensor | None]]:
    module, name = place
    found: Callable[..., tuple[Tensor, Tensor | None]] = getattr(
        importlib.import_module(module), name
    )
    return found
