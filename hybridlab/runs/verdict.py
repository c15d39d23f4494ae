"""How a workflow's end becomes a run's state and a sentence."""

from __future__ import annotations

import errno

from hybridlab.errors import HybridLabError
from hybridlab.runs.context import Stopped
from hybridlab.runs.database import StoreFullError
from hybridlab.runs.record import RunState

EXIT_DISK_FULL = 28
_MEMORY_WORDS = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
)
_LOST_WORDS = (
    "device lost",
    "device is lost",
    "unspecified launch failure",
    "illegal memory access",
    "no cuda-capable device",
    "cuda error: unknown error",
    "uncorrectable ecc error",
    "fallen off the bus",
    "all cuda-capable devices are busy or unavailable",
)
_LONGEST = 2000


def verdict(error: BaseException, step: int) -> tuple[RunState, str]:
    """Return the state a run ends in when its workflow raised, and the sentence that says why."""
    if isinstance(error, Stopped):
        if error.reason == "cancel":
            return RunState.CANCELLED, ""
        return RunState.INTERRUPTED, f"The system asked the worker to stop after step {step}."
    if is_disk_full(error):
        place = getattr(error, "filename", None)
        return RunState.FAILED, (
            f"The disk is full{f' ({place})' if place else ''}: step {step} could not be saved; "
            "free some room on it and resume the run."
        )
    if is_out_of_memory(error):
        asked = str(error).strip().splitlines()[0] if str(error).strip() else "memory ran out"
        return RunState.FAILED, (
            f"Not enough memory after step {step}; use a smaller batch (with accumulation), a "
            f"shorter sequence or a smaller model. The system said: {asked}"
        )[:_LONGEST]
    if is_lost_device(error):
        return RunState.FAILED, (
            f"The device was lost after step {step}: this process cannot use it any more. Resume the run, which goes "
            "on from the last checkpoint in a new process; where that fails too, restart the machine or choose another "
            f"device. The driver said: {(str(error).strip().splitlines() or ['nothing'])[0]}"
        )[:_LONGEST]
    if isinstance(error, HybridLabError):
        return RunState.FAILED, str(error)[:_LONGEST]
    words = str(error).strip()
    kind = type(error).__name__
    sentence = f"{kind}: {words}" if words else f"The workflow raised {kind}"
    return RunState.FAILED, f"{sentence[:_LONGEST]} (the log has the details)"


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out: Python's, the system's or an accelerator's, known without importing torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(text in words for text in _MEMORY_WORDS)


def is_lost_device(error: BaseException) -> bool:
    """Say whether an accelerator or its driver gave up, so that no more can be computed in this process."""
    if type(error).__name__ == "AcceleratorError":
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(text in words for text in _LOST_WORDS)


def is_disk_full(error: BaseException) -> bool:
    """Say whether a disk, or the user's part of it, was full."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    if isinstance(error, OSError):
        return error.errno in full
    return isinstance(error, StoreFullError) or "no space left on device" in str(error).lower()
