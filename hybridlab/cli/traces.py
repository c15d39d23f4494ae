"""Verbs about traces of torch.profiler, whoever made them: what one says, and what changed between two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybridlab.cli.output import Json, facts, give, say, table
from hybridlab.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from hybridlab.profiling.comparison import Difference, TraceComparison
    from hybridlab.profiling.summary import TraceSummary

app = typer.Typer(
    help="Read traces of torch.profiler.",
    rich_markup_mode=None,
)

TraceFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="A .json or .json.gz that torch.profiler wrote; several are the ranks of one training.",
    ),
]
Rows = Annotated[int, typer.Option(min=1, max=1000, help="Lines of each table.")]
_NAME_WIDTH = 80


@app.callback(invoke_without_command=True)
def traces(context: typer.Context, json: Json = False) -> None:
    """Read traces of torch.profiler; name a verb."""
    if context.invoked_subcommand is not None:
        return
    if json:
        give({"verbs": ["show", "compare"]})
    else:
        typer.echo(context.get_help())


@app.command("show")
def show(files: TraceFiles, rows: Rows = 12, json: Json = False) -> None:
    """Tell where the time went: by kind of work, operator, kernel and component; several are the ranks of one run."""
    from hybridlab.profiling.reading.reader import read_trace
    from hybridlab.profiling.summary import summarise

    if len(files) > 1:
        _show_ranks([summarise(read_trace(file)) for file in files], json)
        return
    summary = summarise(read_trace(files[0]))
    for note in summary.notes:
        say(f"note: {note}")
    if json:
        give(summary.as_dict())
    else:
        _print(summary, rows)


@app.command("compare")
def compare_traces(
    a: Annotated[Path, typer.Argument(metavar="A", help="The trace before.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The trace after.")],
    rows: Rows = 12,
    json: Json = False,
) -> None:
    """Match two traces by component, operator and kernel: what got slower, by more calls or by slower ones."""
    from hybridlab.profiling.comparison import compare
    from hybridlab.profiling.reading.reader import read_trace
    from hybridlab.profiling.summary import summarise

    found = compare(*(summarise(read_trace(file)) for file in (a, b)))
    for note in found.notes:
        say(f"note: {note}")
    if json:
        give(found.as_dict())
    else:
        _print_comparison(found, rows)


def _print(summary: TraceSummary, rows: int) -> None:
    if summary.timeline is not None:
        at_peak = ", ".join(
            f"{name} {format_bytes(size)}"
            for name, size in summary.timeline.at_peak.items()
            if size
        )
        facts([("peak", format_bytes(summary.timeline.peak_bytes)), ("made of", at_peak)])
        return
    count = len(summary.steps.steps)
    mean = sum(step.duration_us for step in summary.steps.steps) / count
    pairs = [
        ("events", f"{summary.events:,} in {_time(summary.span_us)}"),
        ("steps", f"{count} of {_time(mean)}" if summary.steps.recorded else "none marked"),
        ("attributed", f"{_share(summary.attributed)} of the time belongs to a component"),
    ]
    pairs += [
        (f"device {use.device}", f"a kernel ran {_share(use.busy)} of the time")
        for use in summary.device_use
    ]
    pairs += [
        (f"memory, {curve.device}", f"{format_bytes(curve.peak_bytes)} at most")
        for curve in summary.memory
    ]
    pairs += [
        (
            f"unused, {curve.device}",
            f"{format_bytes(curve.fragmentation.mean_bytes)} of what was reserved on average, "
            f"{format_bytes(curve.fragmentation.at_peak_bytes)} when most was allocated",
        )
        for curve in summary.memory
        if curve.fragmentation is not None
    ]
    if (overlap := summary.communication.overlap) is not None:
        pairs.append(("communication", f"{_share(overlap)} of it hidden behind computation"))
    facts(pairs)
    table(
        "Time of a step, measured",
        ("kind", "time", "share"),
        [
            (name, _time(us), _share(us / mean if mean else None))
            for name, us in summary.categories.items()
        ],
        ("time", "share"),
    )
    table(
        "Operators, measured",
        ("operator", "calls", "host", "host, own", "device", "device, own"),
        [
            (
                _short(row.name),
                f"{row.calls:,}",
                *(_time(us) for us in (row.host_us, row.host_self_us)),
                *(_time(us) for us in (row.device_us, row.device_self_us)),
            )
            for row in summary.operators[:rows]
        ],
        ("calls", "host", "host, own", "device", "device, own"),
    )
    if summary.kernels:
        table(
            "Kernels, measured",
            ("kernel", "calls", "time", "mean"),
            [
                (_short(row.name), f"{row.calls:,}", _time(row.total_us), _time(row.mean_us))
                for row in summary.kernels[:rows]
            ],
            ("calls", "time", "mean"),
        )
    table(
        "Components, measured",
        ("component", "calls", "host, own", "device, own", "of it backward"),
        [
            (
                _short(row.path),
                f"{row.calls:,}",
                *(_time(us) for us in (row.host_us, row.device_us, row.device_backward_us)),
            )
            for row in summary.components[:rows]
        ],
        ("calls", "host, own", "device, own", "of it backward"),
    )


def _show_ranks(summaries: list[TraceSummary], json: bool) -> None:
    from hybridlab.profiling.ranks import across_ranks

    found = across_ranks(summaries)
    for note in found.notes:
        say(f"note: {note}")
    if json:
        give(found.as_dict())
        return
    facts(
        [
            ("processes", f"{len(found.rows)} of {found.world_size}"),
            ("slowest", f"rank {found.slowest} computes longest: the others wait for it"),
        ]
    )
    headings = ("rank", "step", "computing", "communicating", "of it exposed", "begins late")
    table(
        "A mean step of each rank, measured",
        headings,
        [
            (
                f"{row.rank}",
                *(_time(us) for us in (row.step_us, row.computation_us, row.communication_us)),
                *(_time(us) for us in (row.exposed_us, row.starts_late_us)),
            )
            for row in found.rows
        ],
        headings[1:],
    )


def _print_comparison(found: TraceComparison, rows: int) -> None:
    before, after = found.step_us
    facts(
        [
            ("a", found.a),
            ("b", found.b),
            ("a step", f"{_time(before)} before, {_time(after)} after"),
            ("compared", f"{found.measure} time, a step"),
        ]
    )
    for title, differences in (
        ("Components", found.components),
        ("Operators", found.operators),
        ("Kernels", found.kernels),
    ):
        if differences:
            _print_differences(title, differences[:rows])


def _print_differences(title: str, differences: tuple[Difference, ...]) -> None:
    table(
        f"{title}, by change",
        ("name", "calls", "time", "change", "why"),
        [
            (
                _short(row.name),
                f"{row.calls_a:g} → {row.calls_b:g}",
                f"{_time(row.us_a)} → {_time(row.us_b)}",
                f"{'+' if row.change_us >= 0 else '-'}{_time(abs(row.change_us))}",
                row.reason,
            )
            for row in differences
        ],
        ("calls", "time", "change"),
    )


def _time(us: float) -> str:
    return format_seconds(us / 1e6) if us else "0"


def _share(share: float | None) -> str:
    return "nothing" if share is None else f"{100 * share:.1f} %"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"
