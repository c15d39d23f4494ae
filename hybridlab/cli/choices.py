"""How verbs that choose by measuring answer: candidates with their ratios, what is kept and why, before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hybridlab.cli.output import facts, give, make_room, say, table

if TYPE_CHECKING:
    from hybridlab.planning.saved import Saved
    from hybridlab.planning.turns import Work
    from hybridlab.profiling.medians import Median


class For(StrEnum):
    """What is to be faster."""

    inference = "inference"
    training = "training"


class Judged(Protocol):
    """A candidate: whether it is kept, and why or why not."""

    @property
    def kept(self) -> bool: ...  # noqa: D102 - said above
    @property
    def why(self) -> str: ...  # noqa: D102 - said above


class Watched(Protocol):
    """What was measured while others may have used the machine."""

    @property
    def busy(self) -> bool: ...  # noqa: D102 - said above
    @property
    def others_cores(self) -> float: ...  # noqa: D102 - said above


class Report(Watched, Protocol):
    """What was chosen, and what the whole takes without it."""

    @property
    def applied(self) -> bool: ...  # noqa: D102 - said above
    @property
    def why(self) -> str: ...  # noqa: D102 - said above
    @property
    def plain(self) -> Work: ...  # noqa: D102 - said above
    @property
    def plain_ms(self) -> Median: ...  # noqa: D102 - said above
    @property
    def ratio(self) -> Median: ...  # noqa: D102 - said above
    def as_dict(self) -> dict[str, Any]: ...  # noqa: D102 - said above


_One = TypeVar("_One", bound=Judged)
_Found = TypeVar("_Found", bound=Report)


def answer(
    measure: Callable[[], _Found],
    chosen: Callable[[_Found], Saved],
    show: Callable[[_Found], None],
    output: Path | None,
    json: bool,
    busy: str = "",
) -> None:
    """Measure, write what was chosen, and print what came of it; ``busy`` ends the note that others were at work.

    Raises:
        SpecError: the file cannot be written; that is told before anything is measured.
        RunError: it cannot any more afterwards.
    """
    make_room(output)
    found = measure()
    if output is not None:
        chosen(found).save(output)
        say_written(chosen(found), output)
    if json:
        give(found.as_dict())
    else:
        show(found)
    say_busy(found, busy)


def say_written(chosen: Saved, file: Path) -> None:
    """Say how a training takes what was written, where it was chosen for one."""
    if getattr(chosen, "training", True):
        say(f"a training takes it: hybridlab train DESIGN --set {chosen.called}=@{file}")


def candidates(
    title: str,
    columns: Sequence[str],
    judged: Iterable[_One],
    cells: Callable[[_One], Sequence[str]],
    numbers: Sequence[str],
) -> None:
    """Print a row for each candidate, its verdict last: kept or left, and why."""
    rows = [(*cells(one), "kept: " + one.why if one.kept else one.why) for one in judged]
    table(title, (*columns, "verdict"), rows, numbers=numbers)


def outcome(
    found: Report,
    plain: str,
    done: str,
    after: tuple[Work, Median],
    *,
    whole: str,
    counted: str = "operators",
    more: Iterable[tuple[str, str]] = (),
) -> None:
    """Print the whole before and after, by the names of both, and what of its time is left; ``whole`` is the former."""
    pairs = [(plain, told(found.plain, found.plain_ms, counted))]
    pairs += [(done, told(*after, counted) if found.applied else "nothing"), *more]
    if found.applied:
        pairs.append(("time", f"{share(found.ratio)} of {whole}"))
    facts([*pairs, ("verdict", found.why)])


def share(ratio: Median | None) -> str:
    """Return a ratio with its interval; nothing where none was measured."""
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else ""


def told(work: Work, ms: Median, counted: str = "operators") -> str:
    """Return what a step takes, in words."""
    from hybridlab.units import format_bytes, format_seconds

    moved, peak = format_bytes(work.moved_bytes), format_bytes(work.peak_bytes)
    return (
        f"{work.operators} {counted}, {moved} read and written, {peak} at the peak, "
        f"{format_seconds(ms.value / 1e3)}"
    )


def say_busy(found: Watched, more: str = "") -> None:
    """Say where others kept the machine busy meanwhile."""
    if found.busy:
        others = f"others used {found.others_cores:.1f} cores meanwhile"
        say(f"note: {others}: milliseconds are no timings{more}")
