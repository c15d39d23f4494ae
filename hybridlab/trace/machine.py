"""The speed that predictions assume: this machine's kept ceilings, else a quick measurement."""

from __future__ import annotations

import functools

from hybridlab.hardware import ceilings
from hybridlab.hardware.roofline import Roofline
from hybridlab.runs.home import home

_QUICK_SECONDS_EACH = 0.02


@functools.cache
def this_cpu(threads: int = 1) -> Roofline:
    """Return the roofline of this CPU with a number of threads, measured once per process where none is kept.

    ``hybridlab doctor`` measures more carefully and keeps the result in the home folder.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        kept = ceilings.load(home(), "cpu", threads)
        return Roofline.of(kept or ceilings.measure("cpu", seconds_each=_QUICK_SECONDS_EACH))
    finally:
        torch.set_num_threads(before)
