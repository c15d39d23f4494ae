"""What the name of an event tells: steps, data loading, communication, modules, matrix cores.

The names of kernels that use matrix cores start from NVIDIA's list in PyProf
(https://github.com/NVIDIA/PyProf/blob/master/pyprof/prof/tc.py) and go on where that list ended: Hopper's and
cuBLAS's newer kernels, FlashAttention, and AMD's kernels with MFMA: Tensile's, Composable Kernel's (xdlops) and
MIOpen's iGEMM (gtcx).
"""

from __future__ import annotations

import re

STEP = "ProfilerStep#"
MODULE = "nn.Module: "
EVALUATE = "autograd::engine::evaluate_function: "
ACCUMULATE = f"{EVALUATE}torch::autograd::AccumulateGrad"
OPTIMIZER = "Optimizer."
WRAPPERS = ("DataParallel.forward", "DistributedDataParallel.forward")

_COLLECTIVE = re.compile(r"(nccl|gloo|rccl|mpi|ucc|xccl|hccl):\w+")
_COLLECTIVE_KERNEL = re.compile(
    r"^(?:void )?(?:nccl|rccl)\w*Kernel|^(?:nccl|rccl)Dev", re.IGNORECASE
)
_MATRIX_2020 = (
    "h884|s884|h1688|s1688|hmma|i8816|16816|dgrad_1x1_stride_2x2|first_layer_wgrad_kernel|conv1x1|conv2d_c1_k1|"
    "direct_group|xmma_implicit_gemm|xmma_sparse_conv|xmma_warp_specialized_implicit_gemm|xmma_gemm|"
    "xmma_sparse_gemm|c1688"
)
_MATRIX_SINCE = r"tensorop|gmma|nvjet_|flash_fwd|flash_bwd|fmha_|Cijk_.*_MI\d|xdlops|igemm_\w+_gtcx"
_MATRIX = re.compile(f"{_MATRIX_2020}|{_MATRIX_SINCE}")


def is_step(name: str) -> bool:
    """Tell whether a range is a step of the profiler."""
    return name.startswith(STEP)


def is_module(name: str) -> bool:
    """Tell whether a Python call is the call of a module."""
    return name.startswith(MODULE)


def is_loading(name: str) -> bool:
    """Tell whether a range waits for a data loader."""
    return (name.startswith("enumerate(DataLoader)#") and name.endswith(".__next__")) or (
        name.startswith("enumerate(DataPipe)#")
    )


def is_collective(name: str) -> bool:
    """Tell whether a range of the host is a collective operation."""
    return _COLLECTIVE.match(name) is not None


def is_collective_kernel(name: str) -> bool:
    """Tell whether a kernel moves data between devices for a collective operation."""
    return _COLLECTIVE_KERNEL.match(name) is not None


def is_optimizer_step(name: str) -> bool:
    """Tell whether a range is the step of an optimiser."""
    return name.startswith("Optimizer.step")


def is_optimizer(name: str) -> bool:
    """Tell whether a range belongs to an optimiser, its clearing of gradients too."""
    return name.startswith(OPTIMIZER)


def is_component_range(name: str) -> bool:
    """Tell whether a range that a person recorded stands for a part of the model."""
    reserved = is_step(name) or is_loading(name) or is_collective(name) or is_optimizer(name)
    return not reserved and name not in WRAPPERS and not name.startswith(("[", "PyTorch Profiler"))


def uses_matrix_cores(kernel: str) -> bool:
    """Tell whether a kernel runs on tensor cores (or AMD's matrix cores), by its name."""
    return _MATRIX.search(kernel) is not None


def is_operator(name: str) -> bool:
    """Tell whether an event of an operator category belongs into the table of operators."""
    apart = is_step(name) or is_loading(name) or is_collective(name) or is_optimizer(name)
    return not apart and name not in WRAPPERS
