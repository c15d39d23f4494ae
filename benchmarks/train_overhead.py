"""Steps per second of HybridLab's training loop against a loop written by hand, metrics on.

    python benchmarks/train_overhead.py
    python benchmarks/train_overhead.py --steps 20 --rounds 3 --output /tmp/overhead.json
    python benchmarks/train_overhead.py --components

Both train the same module on the same batches with the same optimiser, in turns of some steps in one process, so that
whatever else the machine does slows both alike. The hand-written loop has AdamW, a schedule and clipping, and tells
nobody anything. Ours sends every step's loss, gradient norm and learning rate to a real run in a real store, whose
writing is counted as ours, as are the meters that are always on and the look for a request to profile. The line: in the
median round ours makes at least 0.97 of the hand-written loop's steps.

``--components`` asks what the measurements of components cost, sampled steps included: in every other turn all of them
are on, every ``--every`` steps (20, the least that is taken by itself), writing to the store too; in the others none.
Each turn is taken against one of the hand-written loop right behind it. The line: at most 0.05 of the step by processor
time, in the median of ``--rounds`` pairs of turns.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import os
import platform
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybridlab.architecture.library import open_architecture
from hybridlab.architecture.model import build
from hybridlab.hardware.devices import choose
from hybridlab.hardware.meters.here import instruments
from hybridlab.runs.context import RunContext
from hybridlab.runs.home import home_id, run_folder
from hybridlab.runs.processes import birth
from hybridlab.runs.store import open_store
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit
from hybridlab.training.component_metrics import ComponentMetrics
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train
from hybridlab.training.spec import TrainSpec
from hybridlab.training.step_profile import StepProfiler
from hybridlab.workflows.metering import metered

LINE = 0.97
COMPONENTS_LINE = 0.05
RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
PAIRS = (
    ("lstm_attention_mini", "parity", 4),
    ("lstm_attention_mini", "mqar", 2),
    ("hymba_mini", "digits_sequence", 1),
    ("jamba_mini", "python_bytes", 1),
)
"""Design, task, and how many times as many steps a turn has: quick steps need more of them to be timed within 1 %."""


@dataclass
class Row:
    """One design on one task: medians over the rounds, times of one step."""

    design: str
    task: str
    batch: int
    by_hand_ms: float
    ours_ms: float
    share_of_steps: float
    """Steps per second of ours over the hand-written loop's, by the processor time of the process."""
    share_of_steps_wall: float
    """The same by the clock on the wall, which other processes disturb."""


@dataclass
class Clock:
    """Wall and processor seconds of turns."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    began: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """Begin a turn."""
        self.began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End the turn and keep its times."""
        self.wall.append(time.perf_counter() - self.began[0])
        self.cpu.append(time.process_time() - self.began[1])


class ByHand:
    """The loop that one would write without HybridLab."""

    def __init__(self, model: nn.Module, task: Task, spec: TrainSpec) -> None:
        self.model, self.task, self.spec, self.step = model, task, spec, 0
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=spec.learning_rate, betas=spec.betas, fused=True
        )
        model.train()

    def steps(self, count: int) -> None:
        """Make some updates."""
        spec = self.spec
        for _ in range(count):
            share = (1 + math.cos(math.pi * self.step / spec.steps)) / 2
            for group in self.optimiser.param_groups:
                group["lr"] = spec.learning_rate * share
            batch = self.task.train_batch(self.step, spec.batch, spec.seed)
            loss = self.task.loss(self.model(batch.inputs), batch)
            asked = self.model.aux_loss()  # type: ignore[operator]
            if asked is not None:
                loss = loss + asked
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), spec.clip_norm)
            self.optimiser.step()
            self.step += 1


def measure(
    design: str,
    name: str,
    steps: int,
    rounds: int,
    settings: Mapping[str, Any] | None = None,
) -> Row:
    """Train in turns of ``steps`` steps, with more ``settings`` where given; the first round only warms up."""
    batch, hand, ours = turns(design, name, steps, rounds + 1, settings=settings)
    return Row(
        design=design,
        task=name,
        batch=batch,
        by_hand_ms=1e3 * statistics.median(hand.cpu[1:]) / steps,
        ours_ms=1e3 * statistics.median(ours.cpu[1:]) / steps,
        share_of_steps=_share(hand.cpu, ours.cpu),
        share_of_steps_wall=_share(hand.wall, ours.wall),
    )


def turns(
    design: str,
    name: str,
    steps: int,
    count: int,
    components_every: int | None = None,
    before_turn: Callable[[int], None] = lambda number: None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[int, Clock, Clock]:
    """Train in turns of ``steps`` steps; return the batch, and the clocks of the hand-written loop and of ours.

    ``before_turn`` hears the number of each turn of ours before it begins.
    """
    total = steps * count
    task, spec = prepare(
        {
            "task": name,
            "steps": total,
            "eval_every": total,
            "checkpoint_every": total,
            "device": "cpu",
            "target": None,
            "component_metrics_every": components_every,
            **(settings or {}),
        }
    )
    model = build(fit(open_architecture(design), task), task.input_type(), seed=0)
    by_hand = ByHand(copy.deepcopy(model), task, spec)
    context = _context(spec)
    hand, ours = Clock(), Clock()
    profiler = StepProfiler(context.folder, model)

    class Enough(Exception):  # noqa: N818  (the last round is over: no score is measured)
        pass

    def on_step(step: int) -> None:
        context.progress(step, total)
        profiler.after_step(step)
        if step % steps:
            return
        context.flush()
        ours.stop()
        hand.start()
        by_hand.steps(steps)
        hand.stop()
        if step == total:
            raise Enough
        before_turn(step // steps)
        ours.start()

    found = instruments(choose(spec.device))
    before_turn(0)
    ours.start()
    with contextlib.suppress(Enough), metered(context, spec, found):
        train(
            model,
            task,
            spec,
            folder=context.folder,
            on_metrics=context.log_metrics,
            should_stop=context.stop_requested,
            on_step=on_step,
        )
    context.close()
    return spec.batch, hand, ours


def _share(hand: list[float], ours: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(hand[1:], ours[1:], strict=True))


def _context(spec: TrainSpec) -> RunContext:
    """Return the context of a run in the temporary home's store, beating and writing as a worker's does."""
    store = open_store()
    made = store.create("train", "overhead", spec.model_dump(mode="json"), home=home_id())
    pid = os.getpid()
    run = store.leases.claim(
        made.id, secrets.token_hex(8), pid=pid, birth=birth(pid) or "", granted="cpu"
    )
    assert run is not None
    folder = run_folder(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    context = RunContext(store, run, folder)
    context.start()
    return context


@dataclass
class ComponentsRow:
    """What measuring the components of one design costs; processor time of one step, in turns with the same loop."""

    design: str
    task: str
    off_ms: float
    on_ms: float
    cost: float
    """Share that the step takes longer, sampled steps included, each against the hand-written loop beside it."""


def components_cost(design: str, name: str, steps: int, rounds: int, every: int) -> ComponentsRow:
    """Train in turns in which no component is measured and in which all are, every so many steps.

    Both kinds of turns are of one training, one after the other, so that whatever else the machine does is in both; the
    first two only warm up.
    """
    on = [False]
    original = ComponentMetrics.due

    def due(self: ComponentMetrics, step: int) -> bool:
        return on[0] and original(self, step)

    def switch(number: int) -> None:
        on[0] = number % 2 == 1

    ComponentMetrics.due = due  # type: ignore[method-assign]
    try:
        _, hand, ours = turns(design, name, steps, 2 * rounds + 2, every, switch)
    finally:
        ComponentMetrics.due = original  # type: ignore[method-assign]
    share = [mine / theirs for mine, theirs in zip(ours.cpu, hand.cpu, strict=True)]
    costs = [on / off - 1 for off, on in zip(share[2::2], share[3::2], strict=True)]
    off_s, on_s = statistics.median(ours.cpu[2::2]), statistics.median(ours.cpu[3::2])
    return ComponentsRow(
        design, name, 1e3 * off_s / steps, 1e3 * on_s / steps, statistics.median(costs)
    )


def print_components(rows: list[ComponentsRow]) -> None:
    """Print what measuring components costs."""
    print(f"{'design':22}{'task':18}{'none':>11}{'all':>11}{'cost':>8}")
    for row in rows:
        print(f"{row.design:22}{row.task:18}{row.off_ms:8.2f} ms{row.on_ms:8.2f} ms{row.cost:8.3f}")


def print_table(rows: list[Row]) -> None:
    """Print what was measured."""
    print(
        f"{'design':22}{'task':18}{'batch':>6}{'by hand':>11}{'ours':>11}{'share':>8}{'(wall)':>8}"
    )
    for row in rows:
        print(
            f"{row.design:22}{row.task:18}{row.batch:6}{row.by_hand_ms:8.2f} ms{row.ours_ms:8.2f} ms"
            f"{row.share_of_steps:8.3f}{row.share_of_steps_wall:8.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="steps of one turn")
    parser.add_argument(
        "--rounds", type=int, default=11, help="turns of each loop; the median counts"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "train_overhead.json")
    parser.add_argument("--components", action="store_true", help="what measuring components costs")
    parser.add_argument("--every", type=int, default=20, help="steps between two such measurements")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as home:
        os.environ["HYBRIDLAB_HOME"] = home
        os.environ.pop("HYBRIDLAB_STORE", None)
        rows: list[Row] = []
        components: list[ComponentsRow] = []
        for design, name, times in PAIRS:
            turn = times * options.steps
            if options.components:
                components.append(
                    components_cost(design, name, turn, options.rounds, options.every)
                )
            else:
                rows.append(measure(design, name, turn, options.rounds))
        open_store().close()
    print_components(components) if components else print_table(rows)
    result = {
        "benchmark": "train_overhead",
        "line": COMPONENTS_LINE if components else LINE,
        "settings": {k: v for k, v in vars(options).items() if k != "output"},
        "torch": torch.__version__,
        "machine": platform.machine(),
        "rows": [asdict(row) for row in components or rows],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {options.output}")
    dear = [f"{row.design} on {row.task}" for row in components if row.cost > COMPONENTS_LINE]
    if dear:
        raise SystemExit(
            f"measuring components costs more than {COMPONENTS_LINE}: {', '.join(dear)}"
        )
    slow = [f"{row.design} on {row.task}" for row in rows if row.share_of_steps < LINE]
    if slow:
        raise SystemExit(f"less than {LINE} of the hand-written loop's steps: " + ", ".join(slow))


if __name__ == "__main__":
    main()
