"""fla's Triton kernels behind ``matrix_memory.recall``, where a GPU and the package are there (extra ``gpu``).

https://github.com/fla-org/flash-linear-attention
"""

from __future__ import annotations

import functools
import importlib
import importlib.util

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
    module, name = KERNELS[kind, beta_BLH is not None]
    kernel = getattr(importlib.import_module(module), name)
    o_BLHV: Tensor = kernel(**given, scale=1.0)[0]
    return o_BLHV
