"""Which fixes to offer: those after which the problem is gone and nothing new is wrong, for each was tried."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hybridlab.architecture.document import parse
from hybridlab.architecture.fixes.fix import Fix, applied
from hybridlab.architecture.fixes.kinds import kind_fixes
from hybridlab.architecture.fixes.spot import Entries, spot_of
from hybridlab.architecture.fixes.values import value_fixes
from hybridlab.architecture.fixes.wiring import wiring_fixes
from hybridlab.architecture.graph import try_resolve
from hybridlab.errors import HybridLabError, Problem

MOST = 3
"""Fixes offered for one problem."""
SECONDS = 0.3
"""Processor time for the fixes of one text: on a busy machine they come later, but they come."""
_ADDRESS = re.compile(r"nodes\[\d+\]")
_SHAPE = re.compile(r" \([^()]*\)( \w+)?")


@dataclass(frozen=True)
class Survey:
    """What is wrong with a text, and how far looking got: mistakes hide those that come after them."""

    stage: int
    """0: it is no architecture; 1: its names lead nowhere; 2: everything was looked at."""
    problems: tuple[Problem, ...]


def read_survey(text: str) -> Survey:
    """Look at a text without the components: whether it can be read, and whether its names lead somewhere."""
    architecture, problems = parse(text)
    if architecture is None:
        return Survey(0, tuple(problems))
    scope, problems = try_resolve(architecture)
    return Survey(1 if scope is None else 2, tuple(problems))


def fixes(
    text: str,
    problems: Sequence[Problem],
    entries: Entries,
    survey: Callable[[str], Survey] = read_survey,
) -> list[tuple[Fix, ...]]:
    """Return the sound fixes of each problem, the likeliest first; each was made, and the result looked at.

    ``survey`` looks at a text: the caller that can run components finds more than ``read_survey``. After ``SECONDS``
    of processor time no more fixes are tried, so that a long text with many mistakes is still told at once.
    """
    before, seen, until = survey(text), {}, time.thread_time() + SECONDS

    def looked(fixed: str) -> Survey:
        if fixed not in seen:
            seen[fixed] = survey(fixed)
        return seen[fixed]

    found = []
    for problem in problems:
        good: list[Fix] = []
        for fix in proposals(text, problem, entries):
            if len(good) == MOST or time.thread_time() > until:
                break
            fixed = _made(text, fix)
            if fixed is not None and sound(before, looked(fixed), problem, fix):
                good.append(fix)
        found.append(tuple(good))
    return found


def proposals(text: str, problem: Problem, entries: Entries) -> Iterator[Fix]:
    """Yield what might help with a problem, each once, the likeliest first; not all of it does."""
    spot = spot_of(text, problem)
    if spot is None:
        return
    tried: list[tuple[object, ...]] = []
    for source in (wiring_fixes, kind_fixes, value_fixes):
        for fix in source(spot, problem, entries):
            if fix.changes and fix.changes not in tried:
                tried.append(fix.changes)
                yield fix


def sound(before: Survey, after: Survey, problem: Problem, fix: Fix) -> bool:
    """Say whether a fix helped: its problem is gone, and no error is there that it brought.

    Where looking gets further than before, errors come to light that the problem hid; those at nodes that the fix did
    not touch were there all along.
    """
    if (
        after.stage < before.stage
        or _count(after)[_same(problem)] >= _count(before)[_same(problem)]
    ):
        return False
    known = Counter(_same(each) for each in before.problems if each.severity == "error")
    new = Counter(_same(each) for each in after.problems if each.severity == "error") - known
    if after.stage == before.stage:
        return not new
    touched = [path for path in map(_touched, fix.changes) if path]
    return not any(
        _same(each) in new and any(_within(each.path, path) for path in touched)
        for each in after.problems
    )


def _made(text: str, fix: Fix) -> str | None:
    try:
        return applied(text, fix)
    except (HybridLabError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None  # a proposal that does not fit this text is none


def _count(survey: Survey) -> Counter[tuple[str, ...]]:
    return Counter(_same(problem) for problem in survey.problems)


def _same(problem: Problem) -> tuple[str, ...]:
    """Return what stays the same about a problem while nodes around it come and go, and shapes with them."""
    said = (_ADDRESS.sub("nodes", text) for text in (problem.message, problem.got))
    return (problem.severity, *(_SHAPE.sub("", text) for text in said))


def _touched(change: dict[str, object]) -> str:
    return str(change.get("path") or change.get("at") or "")


def _within(problem: str, path: str) -> bool:
    return problem == path or problem.startswith((f"{path}.", f"{path}["))
