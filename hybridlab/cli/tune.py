"""The verbs that tune: chunks of scans, and how sequences lie, as they are fastest on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridlab.cli.choices import For, answer, candidates, outcome, share
from hybridlab.cli.options import Batch, ChoiceFile, Device, Rounds, Seed, Task, given
from hybridlab.cli.output import File, Json, say, table

if TYPE_CHECKING:
    from hybridlab.planning.borders import Border
    from hybridlab.planning.layout.choose import HandOver
    from hybridlab.planning.tuning.measure import Judged, TuningReport

_BORDERS = 8


What = Annotated[
    For, typer.Option("--for", help="What is to be faster: passes forward, or training steps.")
]
Again = Annotated[
    bool, typer.Option("--again", help="Measure also what was measured on this machine before.")
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Keep only what leaves every bit of output and gradients as it is; else sums may be in another order.",
    ),
]


def tune(
    file: File,
    task: Task,
    what: What = For.inference,
    batch: Batch = None,
    rounds: Rounds = 21,
    again: Again = False,
    exact: Exact = False,
    seed: Seed = 0,
    device: Device = "auto",
    output: ChoiceFile = None,
    json: Json = False,
) -> None:
    """Choose the chunks of scans and the layouts within components that are fastest on this machine.

    Each component is timed alone in each way and in its design's, in turn; what is found is kept for the next time.
    Then the whole runs with it and without, in turn; what is not faster is left as designed.
    """
    settings = given(task=task, seed=seed, device=device, batch=batch)
    say("times each component alone in its ways, then the whole, in turn with it as designed")
    _answer(file, settings, what, output, json, rounds=rounds, again=again, exact=exact)


def layout(
    file: File,
    task: Task,
    what: What = For.inference,
    batch: Batch = None,
    rounds: Rounds = 21,
    again: Again = False,
    exact: Exact = False,
    seed: Seed = 0,
    device: Device = "auto",
    output: ChoiceFile = None,
    json: Json = False,
) -> None:
    """Choose over the whole graph how sequences lie in memory: by tokens or by channels, handed over and within.

    Each component is timed alone for each way in which what it reads and gives may lie; the cheapest sum over the graph
    is found exactly. Then the whole runs with it and without, in turn; what is not faster is left as designed.
    """
    settings = given(task=task, seed=seed, device=device, batch=batch)
    say("times each component alone for each layout around and within it, then the whole, in turn")
    options = {
        "rounds": rounds,
        "again": again,
        "chunks": False,
        "hand_overs": True,
        "exact": exact,
    }
    _answer(file, settings, what, output, json, **options)


def _answer(
    file: str, settings: dict[str, Any], what: For, output: Path | None, json: bool, **options: Any
) -> None:
    """Measure, and write and print what was found."""
    from hybridlab.architecture.library import open_architecture
    from hybridlab.workflows.tuning import tune_training

    architecture = open_architecture(file)
    training = what is For.training
    answer(
        lambda: tune_training(architecture, settings, training=training, **options),
        lambda found: found.tuning,
        _print,
        output,
        json,
        busy=", and nothing is kept for the next time",
    )


def _print(found: TuningReport) -> None:
    """Print what was tried of each component and what came of it, what is only copied, and the whole."""
    numbers = ("places", "designed", "fastest", "time")
    candidates(
        "Ways of components (time over that of the design's way, each component alone)",
        ("component", "what", *numbers, "tried"),
        found.judged,
        lambda one: (
            one.component,
            one.knob,
            f"{len(one.places)}",
            f"{one.designed}",
            f"{one.value}",
            share(one.ratio),
            _tried(one),
        ),
        numbers,
    )
    if found.hand_overs:
        _hand_overs(found.hand_overs)
    _borders("Copied as designed", found.plain_borders)
    if found.applied:
        _borders("Copied when tuned", found.tuned_borders)
    after = (found.tuned, found.tuned_ms)
    outcome(found, "as designed", "tuned", after, whole="that as designed")


def _hand_overs(found: Sequence[HandOver]) -> None:
    from hybridlab.units import format_seconds

    numbers = ("by tokens", "by channels")
    table(
        "Hand-overs (sum over the graph of what has a choice, with this one either way)",
        ("given by", "read by", *numbers, "cheapest"),
        [
            (
                one.writer,
                ", ".join(one.readers),
                format_seconds(one.tokens_ms / 1e3),
                "changes bits"
                if one.channels_ms is None
                else format_seconds(one.channels_ms / 1e3),
                f"by {one.layout}",
            )
            for one in found
        ],
        numbers=numbers,
    )


def _borders(title: str, borders: Sequence[Border]) -> None:
    from hybridlab.units import format_bytes, format_seconds

    numbers = ("bytes", "of them cast", "time")
    table(
        title,
        ("written by", "copied by", *numbers),
        [
            (
                one.writer or "the step",
                (one.reader or "the step") + (f", inside {one.inside}" if one.inside else ""),
                format_bytes(one.copied_bytes),
                format_bytes(one.cast_bytes),
                format_seconds(one.ms / 1e3),
            )
            for one in borders[:_BORDERS]
        ],
        numbers=numbers,
    )


def _tried(one: Judged) -> str:
    return ", ".join(
        f"{tried.value}: {tried.ratio.value:.2f}" if tried.ratio else f"{tried.value}: {tried.why}"
        for tried in one.tried
    )


VERBS: dict[str, Callable[..., Any]] = {"tune": tune, "layout": layout}
