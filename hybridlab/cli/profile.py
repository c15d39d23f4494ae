"""The verb that measures: what every component of a training step takes, beside what was predicted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.options import Batch, Device, Seed, Task, given
from hybridlab.cli.output import File, Json, facts, give, make_room, say, table, unwritable
from hybridlab.errors import Problem, RunError
from hybridlab.runs.slots import accelerators

if TYPE_CHECKING:
    from hybridlab.profiling.classes import ByClass
    from hybridlab.profiling.record import Profile
    from hybridlab.profiling.sizes import BySize


def profile(
    file: File,
    task: Task,
    steps: Annotated[int, typer.Option(help="Steps that are timed, and as many profiled.")] = 10,
    batch: Batch = None,
    seed: Seed = 0,
    device: Device = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write the trace for TensorBoard, both op streams, the figures and their tables here."
        ),
    ] = None,
    by_input: Annotated[
        bool,
        typer.Option(
            "--by-input",
            help="Also run it forward on each class of the task's test inputs: routes, exits, time, memory.",
        ),
    ] = False,
    by_size: Annotated[
        bool,
        typer.Option(
            "--by-size", help="Also run it forward at several lengths and batches: time, memory."
        ),
    ] = False,
    lengths: Annotated[
        str,
        typer.Option(help="Lengths for that, such as 64,256; half, all and twice the task's own."),
    ] = "",
    batches: Annotated[
        str, typer.Option(help="Batches for that, such as 1,8; one sample and the training's.")
    ] = "",
    json: Json = False,
) -> None:
    """Measure a training step component by component, backward included, beside its prediction."""
    if not accelerators():  # on a GPU these lines also say why the driver would not be profiled
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from hybridlab.architecture.library import open_architecture
    from hybridlab.workflows.profile import profile_training
    from hybridlab.workflows.profile_inputs import with_inputs

    sizes = {"lengths": _numbers("--lengths", lengths), "batches": _numbers("--batches", batches)}
    architecture = open_architecture(file)
    if output is not None:
        make_room(output / "profile.json")
    say(f"measures {steps} steps three times over: plain, under the profiler, and one by operator")
    found = profile_training(
        architecture, task, steps=steps, batch=batch, seed=seed, device=device, folder=output
    )
    settings = given(task=task, seed=seed, device=device, batch=batch)
    found = with_inputs(found, architecture, settings, by_input=by_input, by_size=by_size, **sizes)
    if output is not None:
        try:
            found.save(output)
        except OSError as error:
            raise unwritable(output, error) from None
    findings = found.report().findings
    if json:
        give(found.as_dict() | {"findings": [item.as_dict() for item in findings]})
        return
    _print(found)
    if found.by_input is not None:
        _print_classes(found.by_input)
    if found.by_size is not None:
        _print_sizes(found.by_size)
    for item in findings:
        say(f"{item.severity}: {item.sentence}")


def _print_classes(found: ByClass) -> None:
    """Print a row a class of input, then the components whose time depends on it beyond the noise."""
    from hybridlab.units import format_bytes, format_seconds

    numbers = ("samples", "length", "score", "a sample", "activations")
    table(
        "by class of input (measured, forward)",
        ("class", *numbers),
        [
            (
                row["input_class"],
                f"{row['samples']}",
                f"{row['length']}",
                f"{row['score']:.3f}",
                format_seconds(row["ms"] / 1e3),
                format_bytes(row["activation_bytes"]),
            )
            for row in found.classes.to_pylist()
        ],
        numbers=numbers,
    )
    for row in found.spread().to_pylist():
        if row["spread"] > row["noise"]:
            say(f"{row['component']}: time differs by {100 * row['spread']:.0f} % between classes")


def _numbers(option: str, text: str) -> list[int]:
    """Read numbers with commas between them.

    Raises:
        RunError: one of them is none.
    """
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise RunError(
            Problem(option, "is not a list of numbers", "such as 64,256", text[:60])
        ) from None


def _print_sizes(found: BySize) -> None:
    """Print a row a size of the input."""
    from hybridlab.units import format_bytes, format_count, format_seconds

    numbers = ("length", "batch", "a pass", "from", "to", "positions", "activations")
    table(
        "by length and batch (measured, forward)",
        numbers,
        [
            (
                f"{row['length']:,}",
                f"{row['batch']:,}",
                *(format_seconds(row[name] / 1e3) for name in ("ms", "low_ms", "high_ms")),
                format_count(row["positions_per_s"], "/s"),
                format_bytes(row["activation_bytes"]),
            )
            for row in found.sizes.to_pylist()
        ],
        numbers=numbers,
    )
    for note in found.notes:
        say(f"note: {note}")


def _print(found: Profile) -> None:
    from hybridlab.runs.energy_words import energy_words
    from hybridlab.units import format_bytes, format_flops, format_seconds

    numbers = ("step", "share", "forward", "backward", "predicted", "FLOPs", "kept for backward")
    table(
        f"{found.name}: measured on {found.device} with {found.threads} "
        f"thread{'s' if found.threads > 1 else ''}",
        ("component", *numbers),
        [
            (
                item.path,
                format_seconds(item.ms / 1e3),
                f"{100 * item.share:.1f} %",
                format_seconds(item.forward_ms / 1e3),
                format_seconds(item.backward_ms / 1e3),
                "" if item.predicted_ms is None else format_seconds(item.predicted_ms / 1e3),
                format_flops(item.flops),
                format_bytes(item.saved_bytes),
            )
            for item in found.components
        ],
        numbers=numbers,
    )
    step, predicted = found.step_ms_measured, found.step_ms_predicted
    facts(
        [
            (
                "step",
                f"{format_seconds(step.value / 1e3)} measured (median of {step.n}, "
                f"{format_seconds(step.low / 1e3)} to {format_seconds(step.high / 1e3)})"
                + ("" if predicted is None else f", {format_seconds(predicted / 1e3)} predicted"),
            ),
            (
                "peak memory",
                f"{format_bytes(found.peak_bytes_measured)} measured"
                + (
                    ""
                    if found.peak_bytes_predicted is None
                    else f", {format_bytes(found.peak_bytes_predicted)} predicted"
                ),
            ),
            (
                "attributed",
                f"{100 * found.attributed:.1f} % of the profiled time, "
                f"{100 * found.in_components:.1f} % in components; "
                f"{format_seconds(found.unattributed_ms / 1e3)} a step has no name",
            ),
            ("under the profiler", f"{format_seconds(found.profiled_ms.value / 1e3)} a step"),
            *_allocator_lines(found),
            ("energy", energy_words(found.energy.as_dict() if found.energy is not None else {})),
        ]
    )
    for note in found.notes:
        say(f"note: {note}")


def _allocator_lines(found: Profile) -> list[tuple[str, str]]:
    """Return what torch's allocator held of the device, and each of its pools."""
    from hybridlab.hardware.meters.allocator_words import allocator_words
    from hybridlab.units import format_bytes

    pools = [one for one in found.allocator.get("pools", ()) if one["reserved_bytes"] is not None]
    return [
        ("fragmentation", allocator_words(found.allocator)),
        *[
            (
                f"pool {one['name']}",
                f"{format_bytes(one['unused_bytes'])} of {format_bytes(one['reserved_bytes'])} reserved are not "
                f"allocated; {len(one['components'])} components",
            )
            for one in pools
        ],
    ]


VERBS: dict[str, Callable[..., Any]] = {"profile": profile}
