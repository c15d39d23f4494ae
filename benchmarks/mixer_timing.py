"""Forms of the same thing take turns: their times round by round, and the most memory that a pass holds."""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from mixer_lines import NAIVE, OURS, PEERS, Row
from torch import Tensor, nn

from hybridlab.units import format_bytes

SLOW_SECONDS = 1.0
"""A peer or naive form whose first pass takes longer is not run again; that is enough to see that it is slow."""
_NO_PROFILER_LOG = {"KINETO_LOG_LEVEL": "99"}
SHORT_ROUND = 0.03
"""A pass shorter than this is repeated within a round until the round takes about as long."""


@dataclass
class Form:
    """One way to compute what a contest is about."""

    name: str
    source: str
    call: Callable[..., Tensor]
    weights: nn.Module | None = None
    loops: bool = False
    """Whether it loops over time in Python."""
    same: bool = True
    """Whether it computes the same function; one that only resembles ours is shown."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(p.numel() for p in self.weights.parameters()) if self.weights else 0


@dataclass
class Contest:
    """What is computed, the forms that compute it, and what they read; ours comes first."""

    subject: str
    part: str
    forms: list[Form]
    draw: Callable[[int], tuple[Tensor, ...]]
    """Returns inputs of a length, leaves whose gradients are wanted."""
    linear: bool = False
    absent: dict[str, str] = field(default_factory=dict)
    """Forms that could not be had, and why."""


@dataclass(frozen=True)
class Limits:
    """How long a pass of others' forms may take, how much it may hold, and how many rounds there are."""

    seconds: float
    peak_bytes: int
    rounds: int
    others_until: float = math.inf
    """When, on ``time.perf_counter``, no more of others' forms are begun."""
    rounds_until: float = math.inf
    """When no further round is begun; the first always is."""


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def one_pass(
    form: Form, inputs: tuple[Tensor, ...], directions: dict[torch.Size, Tensor]
) -> Callable[[], None]:
    """Return a function that runs forward and backward once and waits for the device.

    ``directions`` are the gradients of outputs by shape, which all forms of a length share.
    """

    def run() -> None:
        with environment(form.environment):
            output = form.call(*inputs)
            if output.shape not in directions:
                directions[output.shape] = torch.randn_like(output)
            output.backward(directions[output.shape])
        if output.device.type != "cpu":
            torch.accelerator.synchronize()
        for leaf in inputs:
            leaf.grad = None
        if form.weights is not None:
            form.weights.zero_grad(set_to_none=True)

    return run


def peak_bytes(run: Callable[[], None], device: torch.device) -> int:
    """Run a pass and return the most bytes it holds at once beyond weights and inputs: kept and workspace."""
    if device.type != "cpu":
        before = torch.accelerator.memory_allocated()
        torch.accelerator.reset_peak_memory_stats()
        run()
        return torch.accelerator.max_memory_allocated() - before
    with (
        environment(_NO_PROFILER_LOG),
        torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile,
    ):
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    peak = now = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def kept_bytes(form: Form, inputs: tuple[Tensor, ...]) -> int:
    """Return the bytes that forward keeps for backward, each storage once: a lower bound of the peak.

    For forms of many thousand small operations, which the profiler would slow tenfold.
    """
    known = {leaf.untyped_storage().data_ptr() for leaf in inputs}
    if form.weights is not None:
        known |= {p.untyped_storage().data_ptr() for p in form.weights.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = form.call(*inputs)
    del output
    return sum(kept.values())


def reason_to_skip(before: list[Row], length: int, limits: Limits) -> str:
    """Say why a pass at this length is not tried, judged by shorter ones; empty where it is."""
    done = sorted((row for row in before if row.seconds), key=lambda row: row.length)
    if not done:
        return next((row.skipped for row in before), "")
    last, power = done[-1], 1.0
    if len(done) > 1:
        grown = math.log(last.ms / done[-2].ms) / math.log(last.length / done[-2].length)
        power = max(1.0, grown)
    seconds = last.ms / 1e3 * (length / last.length) ** power
    held = (last.peak_bytes or 0) * length / last.length
    if seconds > limits.seconds:
        return (
            f"about {seconds:.2g} s a pass (it took {last.ms / 1e3:.2g} s at length {last.length}); "
            f"the limit is {limits.seconds:g} s"
        )
    if held > limits.peak_bytes:
        return (
            f"it would hold {format_bytes(held)} (it held {format_bytes(last.peak_bytes or 0)} at "
            f"length {last.length}); the limit is {format_bytes(limits.peak_bytes)}"
        )
    return ""


def measure(contests: list[Contest], length: int, known: list[Row], limits: Limits) -> list[Row]:
    """Time all forms of all contests at one length, in turns; those of a contest follow each other."""
    rows: list[Row] = []
    directions: dict[torch.Size, Tensor] = {}
    running: list[tuple[Row, Callable[[], None], int, int]] = []
    for contest in contests:
        print(f"length {length}: {contest.subject}", file=sys.stderr, flush=True)
        inputs = contest.draw(length)
        for form in contest.forms:
            row = Row(
                contest.subject,
                contest.part,
                form.name,
                form.source,
                length,
                parameters=form.parameters,
                loops=form.loops,
                same=form.same,
                linear=contest.linear,
                kept_only=form.loops or form.source == NAIVE,
            )
            rows.append(row)
            theirs = form.source == NAIVE or form.source in PEERS
            shorter = [
                old
                for old in known
                if (old.subject, old.part, old.form) == (row.subject, row.part, row.form)
            ]
            if theirs:
                row.skipped = reason_to_skip(shorter, length, limits)
            if theirs and time.perf_counter() > limits.others_until:
                row.skipped = "the time for others' forms is used up; see --minutes"
            if row.skipped:
                continue
            run = one_pass(form, inputs, directions)
            try:
                if row.kept_only:
                    row.peak_bytes = kept_bytes(form, inputs)
                else:
                    row.peak_bytes = peak_bytes(run, inputs[0].device)
            except (AssertionError, RuntimeError, TypeError, ValueError) as error:
                if form.source == OURS:
                    raise
                row.skipped = f"it failed: {(str(error) or 'an assertion').splitlines()[0][:150]}"
                continue
            started = time.perf_counter()
            run()
            seconds = time.perf_counter() - started
            slow = theirs and seconds > SLOW_SECONDS
            if slow:
                row.seconds.append(seconds)
            running.append((row, run, 0 if slow else limits.rounds, _repeats(seconds)))
    for turn in range(limits.rounds):
        if turn and time.perf_counter() > limits.rounds_until:
            break
        for row, run, rounds, repeats in running:
            if turn >= rounds:
                continue
            started = time.perf_counter()
            for _ in range(repeats):
                run()
            row.seconds.append((time.perf_counter() - started) / repeats)
    return rows


def _repeats(seconds: float) -> int:
    return max(1, round(SHORT_ROUND / seconds)) if seconds < SHORT_ROUND else 1


def median_step_ms(
    runs: Mapping[int, Callable[[], None]], rounds: int, repeats: int
) -> dict[int, float]:
    """Return the median milliseconds of each run, in turns."""
    seconds: dict[int, list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            started = time.perf_counter()
            for _ in range(repeats):
                run()
            seconds[key].append((time.perf_counter() - started) / repeats)
    return {key: statistics.median(found) * 1e3 for key, found in seconds.items()}
