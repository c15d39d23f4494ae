"""Ways of training hybrids against the plain way, over three seeds: what each is worth here, if anything.

    python benchmarks/strategies.py                          # all sections, under 60 minutes on two cores
    python benchmarks/strategies.py --only rates broken      # these sections alone
    python benchmarks/strategies.py --quick                  # one seed and few steps, to see that everything runs

``rates``: component rates against the best single rate. ``curriculum``: steps to accuracy with stages. ``students``:
distilled against alone. ``tasks``: several together against each alone. ``experts``: balanced against unbalanced.
``broken``: a deep hybrid whose gradients vanish, mended by the remedy that is suggested.

Trainings run in a pool of ``--jobs`` processes of one thread each. Each result is kept as it comes, and a second start
goes on from there; ``--fresh`` begins anew. Differences are by seed, with the 95 % interval of their mean (Student's
t); where that holds zero, the table says "no difference shown", whatever was hoped for. It exits with 1 where a line is
not met or a training failed.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from types import ModuleType

import strategy_broken
import strategy_curriculum
import strategy_experts
import strategy_rates
import strategy_students
import strategy_tasks
from strategy_statistics import Line, Told
from strategy_trainings import ROOT, Budget, key, read, run_all, single_threads, write

RESULTS = ROOT / "artifacts" / "benchmarks" / "strategies.json"
SECTIONS: dict[str, ModuleType] = {
    "broken": strategy_broken,
    "experts": strategy_experts,
    "students": strategy_students,
    "tasks": strategy_tasks,
    "curriculum": strategy_curriculum,
    "rates": strategy_rates,
}
TITLES = {
    "broken": "A broken deep hybrid, mended by the suggested remedy",
    "experts": "Balanced against unbalanced experts",
    "students": "Distilled students against the student alone, at equal steps",
    "tasks": "Three tasks together against each alone",
    "curriculum": "Steps to accuracy with and without stages, on mqar",
    "rates": "Component rates against the best single rate",
}
SEEDS = (0, 1, 2)
QUICK_SHARE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--quick", action="store_true", help="one seed, few steps; not judged")
    parser.add_argument("--fresh", action="store_true", help="forget the results there are")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not 1 <= len(set(options.seeds)) <= 10:
        parser.error("one to ten seeds")
    quick_file = RESULTS.with_name("strategies_quick.json")
    path: Path = (options.output or (quick_file if options.quick else RESULTS)).resolve()
    budget = Budget(tuple(dict.fromkeys(options.seeds)), 1.0)
    if options.quick:
        budget = Budget(budget.seeds[:1], QUICK_SHARE)
    if options.fresh:
        path.unlink(missing_ok=True)
    os.environ["HYBRIDLAB_HOME"] = str(path.with_name(f"{path.stem}_home"))
    single_threads()
    began = time.perf_counter()
    failed = run_missing(options.only, budget, options.jobs, path)
    seconds = time.perf_counter() - began
    raise SystemExit(report(options.only, budget, path, failed, seconds, judge=not options.quick))


def run_missing(names: list[str], budget: Budget, count: int, path: Path) -> list[str]:
    """Run what has no result yet, until no section wants more: what some train hangs on what came out before."""
    failed: list[str] = []
    tried: set[str] = set()
    while True:
        drop_gone(path)
        found = {key(one.job): one.result for one in read(path)}
        wanted = [
            (name, job)
            for name in names
            for job in SECTIONS[name].jobs(budget, found)
            if key(job) not in found and key(job) not in tried
        ]
        if not wanted:
            return failed
        print(f"{len(wanted)} trainings to go, {len(found)} results there", flush=True)
        tried |= {key(job) for _, job in wanted}
        failed += run_all([job for _, job in wanted], run_one, count, path)


def run_one(job: dict[str, object]) -> dict[str, object]:
    """Run a job where its section says how, in a process of the pool."""
    done: dict[str, object] = SECTIONS[str(job["section"])].run(job)
    return done


def drop_gone(path: Path) -> None:
    """Forget a teacher whose weights are no longer there."""
    results = read(path)
    left = [
        one
        for one in results
        if one.job["section"] != "students" or not strategy_students.gone(one.job, one.result)
    ]
    if len(left) < len(results):
        write(path, left)


def report(
    names: list[str], budget: Budget, path: Path, failed: list[str], seconds: float, *, judge: bool
) -> int:
    """Print every section that is whole, its lines, and what failed; return the exit code."""
    results = read(path)
    found = {key(one.job): one.result for one in results}
    lines: list[Line] = []
    told: dict[str, Told] = {}
    counted: set[str] = set()
    for name in names:
        wanted = {key(job) for job in SECTIONS[name].jobs(budget, found)}
        counted |= wanted
        print(f"\n{TITLES[name]} ({name})")
        if wanted - set(found):
            print("  not whole: " + "; ".join(one for one in failed if one.startswith(name)))
            continue
        told[name] = says = SECTIONS[name].told(budget, found)
        print_table(says)
        lines += says.lines
    used = [one for one in results if key(one.job) in counted]
    cpu = sum(one.cpu_seconds for one in used)
    print(
        f"\n{len(used)} trainings, {cpu / 60:.1f} minutes of processor time in all "
        f"({sum(one.seconds for one in used) / 60:.1f} on the wall, one after the other); this start took "
        f"{seconds / 60:.1f} minutes. Seeds {', '.join(map(str, budget.seeds))}; commits "
        f"{', '.join(sorted({one.commit for one in used}))}."
    )
    for line in lines:
        word = ("met" if line.met else "NOT MET") if judge else "not judged, --quick"
        print(f"{line.what}: {line.found} ({word})")
    for one in failed:
        print(f"failed: {one}")
    tables = {
        name: vars(says) | {"lines": [vars(x) for x in says.lines]} for name, says in told.items()
    }
    write(path, results, {"seeds": budget.seeds, "tables": tables, "failed": failed})
    print(f"written to {path}")
    return int(bool(failed) or (judge and not all(line.met for line in lines)))


def print_table(says: Told) -> None:
    """Print rows in columns, and the notes under them."""
    widths = [max(len(row[at]) for row in (says.head, *says.rows)) for at in range(len(says.head))]
    for row in (says.head, *says.rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  " + "  ".join(cells).rstrip())
    for note in says.notes:
        print(f"  {note}")


if __name__ == "__main__":
    main()
