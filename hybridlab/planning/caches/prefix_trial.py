"""Reads requests that begin alike, with a prefix cache and without, and says what it saved."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from hybridlab.architecture.generate import read_prompt
from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, SpecError
from hybridlab.planning.caches.measure import read_positions
from hybridlab.planning.caches.prefix import EVERY, PrefixCache
from hybridlab.planning.caches.record import MOST_POSITIONS, PrefixTrial

MOST_BYTES = 64 * 2**20


def try_prefixes(
    model: GraphModel,
    *,
    requests: int = 8,
    shared: int = 96,
    own: int = 32,
    most_bytes: int = MOST_BYTES,
    every: int = EVERY,
    seed: int = 0,
) -> PrefixTrial:
    """Read requests of ``shared`` positions that all have and ``own`` of their own, with a cache and without.

    Raises:
        SpecError: a number is out of range, or the model is not read by tokens.
        StepError: a component cannot run one position at a time.
    """
    problems = [
        Problem(name, "is out of range", f"from {least} to {MOST_POSITIONS:,}", str(got))
        for name, got, least in (("requests", requests, 1), ("shared", shared, 0), ("own", own, 1))
        if not least <= got <= MOST_POSITIONS
    ]
    if problems:
        raise SpecError(problems)
    cache = PrefixCache(model, most_bytes, every=every)
    positions = [*read_positions(model, 1, shared + requests * own, seed)]
    drawn_L = torch.cat(positions)
    prompts = [
        torch.cat((drawn_L[:shared], rest_L)).unsqueeze(0)
        for rest_L in torch.split(drawn_L[shared:], own)
    ]
    plain, plain_s = _timed(lambda: [read_prompt(model, prompt)[0] for prompt in prompts])
    cached, cached_s = _timed(lambda: [cache.read(prompt)[0] for prompt in prompts])
    apart = max(float((one - other).abs().max()) for one, other in zip(plain, cached, strict=True))
    return PrefixTrial(shared, own, cache.report(), plain_s, cached_s, apart)


def _timed(read: Callable[[], list[Tensor]]) -> tuple[list[Tensor], float]:
    """Return what was read, and in how many seconds; values are asked for, so that a device has ended its work."""
    start = time.perf_counter()
    found = read()
    float(found[-1].sum())
    return found, time.perf_counter() - start
