"""The verb that plans: what a step computes again in backward for a memory budget, and what size fits a memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.choices import say_written
from hybridlab.cli.options import (
    TrainBatch,
    TrainDevice,
    TrainFile,
    TrainSeed,
    TrainSet,
    TrainTask,
    training_settings,
)
from hybridlab.cli.output import File, Json, facts, give, make_room, say, table

if TYPE_CHECKING:
    from hybridlab.architecture.spec import Architecture
    from hybridlab.planning.compared import Compared
    from hybridlab.planning.fit import Fit
    from hybridlab.planning.record import Figures
    from hybridlab.workflows.plan import Planned

_SHOWN = 15


class Offload(StrEnum):
    """The type that tensors have while they are out of memory."""

    same = "same"
    bfloat16 = "bfloat16"


class Size(StrEnum):
    """What a step is made larger in."""

    batch = "batch"
    length = "length"


def plan(
    file: File,
    task: TrainTask = None,
    training: TrainFile = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Most memory of a step: 40MiB, or 50% of the plain step's peak."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="Find the largest size that fits: 24GiB, or a card such as 'RTX 4090'."),
    ] = None,
    of: Annotated[
        Size, typer.Option(help="What --fit makes larger: the batch, or the length of samples.")
    ] = Size.batch,
    offload: Annotated[
        Offload | None,
        typer.Option(
            help="Let what components keep also leave memory, for a mapped file or pinned memory: as it is, or in "
            "bfloat16, which changes gradients a little."
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Also run the step with the plan and measure it.")
    ] = False,
    compare_compiled: Annotated[
        bool,
        typer.Option(
            "--compare-compiled",
            help="Also measure the step compiled, with PyTorch's own memory budget, and plans of the compiled "
            "step; compiling takes minutes.",
        ),
    ] = False,
    batch: TrainBatch = None,
    seed: TrainSeed = None,
    device: TrainDevice = None,
    setting: TrainSet = None,
    output: Annotated[Path | None, typer.Option(help="Write the plan here, as JSON.")] = None,
    json: Json = False,
) -> None:
    """Find which components to compute again in backward, so that a step fits a memory budget at least time.

    With --fit instead: the largest batch or length that fits a memory, as the step is and with plans.
    """
    from hybridlab.architecture.library import open_architecture
    from hybridlab.errors import Problem, SpecError
    from hybridlab.planning.record import Budget
    from hybridlab.workflows.plan import fit_training, memory_of, plan_training

    if (budget is None) == (fit is None):
        raise SpecError(
            Problem(
                "budget",
                "is missing" if budget is None else "and fit exclude each other",
                "--budget 50%, or --fit 24GiB",
                fix="give one of them",
            )
        )
    if fit is not None and (apply or compare_compiled or output is not None or offload is not None):
        raise SpecError(
            Problem("fit", "makes no plan to apply or to write", fix="plan with --budget for that")
        )
    settings = training_settings(
        training, setting, task=task, batch=batch, seed=seed, device=device
    )
    settings.pop("plan", None)
    if fit is not None:
        limit_bytes = memory_of(fit)
        architecture = open_architecture(file)
        say("traces steps of a few sizes and solves them for every budget")
        sizes = fit_training(architecture, settings, limit_bytes, axis=of.value)
        if json:
            give(sizes.as_dict())
        else:
            _print_sizes(sizes)
        return
    wanted = Budget.parse(str(budget))
    make_room(output)
    architecture = open_architecture(file)
    say("traces one step and solves it for every budget" + (", then measures" if apply else ""))
    found = plan_training(
        architecture, settings, wanted, apply=apply, offload=offload.value if offload else None
    )
    if compare_compiled:
        found = _beside_compiled(found, architecture, settings)
    if output is not None:
        found.chosen.save(output)
        say_written(found.chosen, output)
    if json:
        give(found.as_dict())
    else:
        _print(found)


def _beside_compiled(
    found: Planned, architecture: Architecture, settings: Mapping[str, Any]
) -> Planned:
    """Measure PyTorch's own budget beside a plan; where it cannot be, the plan stands and says why."""
    from dataclasses import replace

    from hybridlab.architecture.document import dump
    from hybridlab.errors import RunError
    from hybridlab.planning.compared import doing
    from hybridlab.workflows.compiled import compare_compiled

    told = -1

    def on_part(done: int, parts: int) -> None:
        nonlocal told
        if done != told and done < parts:
            told = done
            say(doing(done, parts))

    try:
        return replace(
            found, compared=compare_compiled(dump(architecture), settings, on_part=on_part)
        )
    except RunError as error:
        say(f"note: {error}")
        return replace(found, not_compared=str(error))


def _print_sizes(found: Fit) -> None:
    """Print the largest sizes that fit, as the step is and with plans, and what those between cost."""
    from hybridlab.units import format_bytes, format_seconds

    if found.planned is None:
        facts(
            [
                ("memory", format_bytes(found.limit_bytes)),
                (f"least for {found.axis} 1", f"{format_bytes(found.least_bytes)}, predicted"),
            ]
        )
        return
    sizes = [found.plain, *found.beyond, found.planned]
    numbers = (found.axis, "peak", "step", "a sample", "computed again", "traced")
    table(
        f"What fits {format_bytes(found.limit_bytes)} (predicted; times are this machine's)",
        numbers,
        [
            (
                f"{one.size:,}",
                format_bytes(one.peak_bytes),
                format_seconds(one.step_ms / 1e3),
                format_seconds(one.sample_ms / 1e3),
                f"{one.again} of {found.components}",
                "yes" if one.traced else "from smaller ones",
            )
            for one in dict.fromkeys(one for one in sizes if one is not None)
        ],
        numbers=numbers[:-1],
    )


def _print(found: Planned) -> None:
    """Print some points of the curve, then the plan and its figures."""
    from hybridlab.units import format_bytes, format_seconds

    points = found.points
    step = max(1, len(points) // _SHOWN)
    numbers = ("peak", "step", "computed again")
    table(
        f"{len(points)} plans that no other beats (predicted)",
        numbers,
        [
            (
                format_bytes(plan.predicted.peak_bytes),
                format_seconds(plan.predicted.step_ms / 1e3),
                f"{len(plan.recomputed)} of {len(plan.components)}",
            )
            for plan in [*points[:-1:step], points[-1]]
        ],
        numbers=numbers,
    )
    chosen = found.chosen
    rows = [("budget", str(chosen.budget)), ("plain", _told(chosen.plain, "predicted"))]
    rows.append(("predicted times", f"rest on {found.made.rests_on}"))
    if found.plain_measured is not None:
        rows.append(("", _told(found.plain_measured, "measured")))
    rows.append(("with the plan", _told(chosen.predicted, "predicted")))
    if chosen.measured is not None:
        rows.append(("", _told(chosen.measured, "measured")))
    for run in chosen.recompute:
        rows.append(("computed again", run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}"))
    if chosen.offload:
        lossy = ", lossy" if chosen.offload_as != "same" else ""
        rows.append((f"offloaded{lossy}", ", ".join(chosen.offload)))
    facts(rows)
    if chosen.note:
        say(f"note: {chosen.note}")
    for name, why in chosen.kept_because.items():
        say(f"note: {name} is always kept: {why}")
    if found.compared is not None:
        _print_compiled(found.compared)


def _print_compiled(found: Compared) -> None:
    """Print what PyTorch's own budget takes, each point in a process of its own."""
    from hybridlab.units import format_bytes, format_seconds

    numbers = ("budget", "peak", "step", "compiling", "gradients differ by")
    plain = found.plain
    rows = [("not compiled", format_bytes(plain.peak_bytes), format_seconds(plain.step_ms / 1e3))]
    table(
        "PyTorch's own budget (measured, compiled)",
        numbers,
        [
            *((*row, "", "") for row in rows),
            *(
                (
                    f"{one.share:g}",
                    format_bytes(one.measured.peak_bytes),
                    format_seconds(one.measured.step_ms / 1e3),
                    format_seconds(one.compile_s),
                    f"{one.difference:.0e}",
                )
                for one in found.found
                if one.measured is not None
            ),
        ],
        numbers=numbers,
    )
    for one in found.points:
        if one.why:
            say(f"note: budget {one.share:g}: {one.why}")
    _print_planned(found)


def _print_planned(found: Compared) -> None:
    """Print plans of the compiled step, each point in a process of its own."""
    from hybridlab.units import format_bytes, format_seconds

    numbers = ("peak, predicted", "measured", "step, predicted", "measured ", "gradients differ by")
    if found.planned:
        table(
            "Plans of the compiled step",
            ("plan", *numbers),
            [
                (
                    one.told,
                    format_bytes(one.predicted.peak_bytes),
                    format_bytes(one.measured.peak_bytes),
                    format_seconds(one.predicted.step_ms / 1e3),
                    format_seconds(one.measured.step_ms / 1e3),
                    f"{one.difference:.0e}",
                )
                for one in found.planned
                if one.measured is not None
            ],
            numbers=numbers,
        )
    for why in dict.fromkeys([found.not_planned, *(one.why for one in found.planned)]):
        if why:
            say(f"note: plans of the compiled step: {why}")


def _told(figures: Figures, source: str) -> str:
    from hybridlab.units import format_bytes, format_seconds

    peak, step = format_bytes(figures.peak_bytes), format_seconds(figures.step_ms / 1e3)
    return f"{peak} at the peak, {step} a step, {source}"


VERBS: dict[str, Callable[..., Any]] = {"plan": plan}
