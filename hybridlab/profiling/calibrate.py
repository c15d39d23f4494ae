"""Measures the components of an architecture one by one, so that predictions go by this machine and not by ceilings."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.fake_run import concrete_shape, unknown_length
from hybridlab.architecture.infer import Inference, SlotPlan
from hybridlab.architecture.model import Slot, build
from hybridlab.architecture.spec import Architecture
from hybridlab.hardware.others import BUSY_CORES, Others
from hybridlab.hardware.roofline import Roofline
from hybridlab.trace.calibration import (
    Calibration,
    Directions,
    component_key,
    fit,
    keep,
    kept,
    parts,
)
from hybridlab.trace.component_cost import Traced, trace_slot
from hybridlab.trace.step import casting

LENGTHS = (24, 96, 384)
"""Where components are measured; what they take in between and beyond is said by the factors."""
BATCHES = (2, 8, 32)
"""Where those are measured whose length is fixed: at one size, calls and work could not be told apart."""
_BATCH = 8
_TIMES, _SECONDS_EACH = 5, 0.05
_AGAIN_SECONDS = 600.0
"""What was measured on a busy machine is used so long before it is measured again."""
_LOOK_SECONDS = 0.1
_TENSORS = ((2, 64), (24, 64), (24, 4096), (2, 262_144))
"""Weights that an update is measured on: how many tensors, of how many numbers."""
_LOGITS = ((64, 16), (4096, 64))
_VOCAB = 64
_HYBRID = f"""\
name: what components take in company
width: 64
nodes:
  - {{use: token_embedding, vocab: {_VOCAB}}}
  - {{use: attention}}
  - {{id: first, use: swiglu}}
  - {{use: mamba2}}
  - {{id: second, use: swiglu}}
  - {{use: gru}}
  - {{use: gated_linear_attention}}
  - {{id: third, use: swiglu}}
  - {{use: lm_head, vocab: {_VOCAB}}}
"""


def calibrate(
    architecture: Architecture,
    inference: Inference,
    roofline: Roofline,
    *,
    batch: int = _BATCH,
    lengths: tuple[int, ...] = LENGTHS,
    cast: torch.dtype | None = None,
) -> Calibration:
    """Return the kept calibration, with what it lacks of this architecture's components measured now and kept.

    A component takes a tenth of a second or so, the first time on a machine; and once more when the machine is quiet,
    if it was not before. ``cast`` is the type of autocast that forwards run in, None without it; each has a calibration
    of its own.
    """
    threads = torch.get_num_threads()
    known = kept(threads, cast)
    bench = _Bench(roofline, batch, lengths, cast)
    others, again = Others(), _again(known)
    whole = _with_components(known, architecture, inference, bench, again)
    if whole.update_s is None or whole.loss_s is None or again & {"update_s", "loss_s"}:
        whole = replace(whole, update_s=_update(), loss_s=_loss())
    if whole.company is None or "company" in again:
        again -= _changed(known, whole)
        whole = _with_company(whole, bench, again)
    if whole is not known:
        busy = others.cores() > BUSY_CORES
        whole = whole.measured(_changed(known, whole), time.time() if busy else None)
        keep(whole, threads, cast)
    return whole


def _again(known: Calibration) -> frozenset[str]:
    """Return what is to be measured again: what is doubtful for a while, if nobody else uses the machine now."""
    before = time.time() - _AGAIN_SECONDS
    doubtful = frozenset(name for name, since in known.doubtful.items() if since < before)
    if not doubtful:
        return doubtful
    others = Others()
    time.sleep(_LOOK_SECONDS)
    return doubtful if others.cores() <= BUSY_CORES else frozenset()


def _changed(known: Calibration, whole: Calibration) -> frozenset[str]:
    """Return the components and fields that were measured since."""
    fields = {
        name
        for name in ("update_s", "loss_s", "company")
        if getattr(known, name) is not getattr(whole, name)
    }
    found = whole.components.items()
    return frozenset(
        fields | {key for key, factors in found if known.components.get(key) is not factors}
    )


def _with_components(
    known: Calibration,
    architecture: Architecture,
    inference: Inference,
    bench: _Bench,
    again: frozenset[str],
) -> Calibration:
    """Return a calibration with what it lacks of an architecture's components, or is to have anew, measured now."""
    missing = {
        component_key(plan): plan
        for plan in inference.slots.values()
        if component_key(plan) not in known.components or component_key(plan) in again
    }
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, plan in missing.items():
            found[key] = plan.info.name, bench.directions(plan, architecture)
    return known.with_components(found) if found else known


def _with_company(known: Calibration, bench: _Bench, again: frozenset[str]) -> Calibration:
    """Return a calibration with how much longer a small hybrid takes than its parts, each measured alone."""
    architecture = loads(_HYBRID)
    model = build(architecture, seed=0).train()
    inference = model.inference
    known = replace(known, company=None)  # what is measured anew is of no account
    whole = _with_components(known, architecture, inference, bench, again)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    weights = list(model.parameters())
    update_s = whole.update_seconds(len(weights), sum(one.nbytes for one in weights))
    ratios = []
    made: list[Tensor] = []

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    for length in bench.lengths:
        tokens = torch.randint(_VOCAB, (bench.batch, length))

        def forward(tokens: Tensor = tokens) -> None:
            with casting(bench.cast):
                made[:] = [model(tokens)]

        def backward() -> None:
            output = made.pop()
            torch.autograd.backward(output, torch.ones_like(output))

        alone = [0.0, 0.0, update_s or 0.0]
        for plan in inference.slots.values():
            traced = bench.traced(plan, architecture, bench.batch, length)
            for way, seconds in enumerate(whole.seconds_alone(plan, traced, bench.roofline)):
                alone[way] += seconds
        took = _typical(forward, backward, update)
        ratios.append([mine / one if one else 1.0 for mine, one in zip(took, alone, strict=True)])
    ahead, back, last = (max(1.0, statistics.median(some)) for some in zip(*ratios, strict=True))
    return replace(whole, company=(ahead, back, last))


@dataclass(frozen=True)
class _Bench:
    """How components are measured: against which ceilings, at which sizes, and in which number format."""

    roofline: Roofline
    batch: int
    lengths: tuple[int, ...]
    cast: torch.dtype | None

    def sizes(self, plan: SlotPlan) -> list[tuple[int, int]]:
        """Return the batches and lengths that tell a component's calls from its work."""
        if any(map(unknown_length, plan.context.inputs)):
            return [(self.batch, length) for length in self.lengths]
        return [(batch, self.lengths[0]) for batch in BATCHES]

    def traced(self, plan: SlotPlan, architecture: Architecture, batch: int, length: int) -> Traced:
        """Return what a component does at a size."""
        eps = architecture.norm_eps
        return trace_slot(plan, architecture.norm, batch, length, eps, cast=self.cast)

    def directions(self, plan: SlotPlan, architecture: Architecture) -> Directions:
        """Measure a component, and return the factors of its directions."""
        forward, backward = [], []
        for size in self.sizes(plan):
            traced = self.traced(plan, architecture, *size)
            ahead_s, back_s = component_s(plan, architecture, *size, self.cast)
            forward.append((*parts(traced.forward, self.roofline), ahead_s))
            backward.append((*parts(traced.backward, self.roofline), back_s))
        return Directions(fit(forward), fit(backward))


def component_s(
    plan: SlotPlan,
    architecture: Architecture,
    batch: int,
    length: int,
    cast: torch.dtype | None = None,
) -> tuple[float, float]:
    """Return the seconds of a forward and of a backward of one component in its place.

    Each run reads other numbers, as in training: kernels in bfloat16 are made anew for sizes that data decides.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        slot = Slot(plan, architecture.norm, architecture.norm_eps).train()
        inputs = [
            torch.randint(int(getattr(plan.params, "vocab", 2)), shape)
            if given.dtype == "int64"
            else torch.randn(shape).requires_grad_()
            for given in plan.context.inputs
            for shape in [concrete_shape(given, batch, length)]
        ]
        direction: list[Tensor] = []
        made: list[Tensor] = []

        @torch.no_grad()
        def another() -> None:
            for given in inputs:
                if given.is_floating_point():
                    given.normal_()
                else:
                    given.random_(int(getattr(plan.params, "vocab", 2)))

        def forward() -> None:
            with casting(cast):
                made[:] = [slot(*inputs)]

        def backward() -> None:
            output = made.pop()
            if not output.requires_grad:
                return
            asked = slot.body.aux_loss()
            if not direction:
                direction.append(torch.randn_like(output))
            roots = [output] if asked is None else [output, asked]
            torch.autograd.backward(roots, [*direction, *([None] * (len(roots) - 1))])
            slot.zero_grad(set_to_none=True)
            for given in inputs:
                given.grad = None

        ahead_s, back_s = _typical(forward, backward, before=another)
        return ahead_s, back_s


def _update() -> tuple[float, float, float]:
    """Return what an update with clipping takes: seconds, seconds a tensor, seconds a byte."""
    took: list[float] = []
    for count, size in _TENSORS:
        weights = [torch.zeros(size, requires_grad=True) for _ in range(count)]
        optimiser = torch.optim.AdamW(weights, fused=True)

        def once(
            weights: list[Tensor] = weights, optimiser: torch.optim.Optimizer = optimiser
        ) -> None:
            for weight in weights:
                weight.grad = weight.detach()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        took += _typical(once)
    tensor_s = max(0.0, (took[1] - took[0]) / (_TENSORS[1][0] - _TENSORS[0][0]))
    byte_s = max(0.0, took[3] - took[0]) / (4 * _TENSORS[3][0] * _TENSORS[3][1])
    return max(0.0, took[0] - 2 * tensor_s), tensor_s, byte_s


def _loss() -> tuple[float, float]:
    """Return what a cross entropy takes forward and backward: seconds, seconds a byte of logits."""
    took: list[float] = []
    for rows, classes in _LOGITS:
        logits = torch.zeros(rows, classes, requires_grad=True)
        targets = torch.zeros(rows, dtype=torch.int64)

        def once(logits: Tensor = logits, targets: Tensor = targets) -> None:
            F.cross_entropy(logits, targets).backward()  # type: ignore[no-untyped-call]
            logits.grad = None

        took += _typical(once)
    sizes = [4 * rows * classes for rows, classes in _LOGITS]
    byte_s = max(0.0, (took[1] - took[0]) / (sizes[1] - sizes[0]))
    return max(0.0, took[0] - byte_s * sizes[0]), byte_s


def _typical(
    *stages: Callable[[], None], before: Callable[[], None] = lambda: None
) -> tuple[float, ...]:
    """Return the medians in seconds of a few runs of stages, the first ones left out; slow ones run less often.

    What is done ``before`` each run does not count.

    A run counts by the processor time it took where that is less than its time on the clock, as it is on one thread
    while others keep the machine busy: what is kept for good must not depend on who else was at work.
    """
    for _ in range(2):
        before()
        for stage in stages:
            stage()
    took: list[list[float]] = []
    end = time.perf_counter() + _SECONDS_EACH
    while len(took) < _TIMES or (time.perf_counter() < end and len(took) < 50):
        before()
        took.append([_seconds(stage) for stage in stages])
        if sum(map(sum, took)) > 20 * _SECONDS_EACH:
            break
    return tuple(map(statistics.median, zip(*took, strict=True)))


def _seconds(stage: Callable[[], None]) -> float:
    started, worked = time.perf_counter(), time.process_time()
    stage()
    worked = time.process_time() - worked
    return min(time.perf_counter() - started, worked)
