"""All samplers where the exact front is known, by formula or from trainings: share of its hypervolume, cost of an ask.

    python benchmarks/search.py
    python benchmarks/search.py --spaces mqar digits_sequence
    python benchmarks/search.py --samplers cost_aware random --seeds 0 1 --ask 0

Spaces are the closed form, and the table of trained hybrids on each of its tasks. Lines: on the closed form, cost-aware
evolution reaches at least 0.96 of the exact hypervolume in 200 trials and 0.98 in 500, as means over the seeds, and an
ask at 2,000 trials takes less than 150 ms of processor time; on each task of the table, it reaches in 100 trials what
the best of TPE, NSGA-II and random reaches in 500. Samplers take turns seed by seed, in one process of one thread; all
are asked and told in the same way and start from the same study in memory. Times are processor times, medians of ten
asks after a study of 2,000 trials, the hand designs and others at random, the same for all.

The table is small enough for ours to price all of it at each ask, so that its proposals there follow from what was
measured and hardly from the seed: an interval of nothing says that, and not how sure the share is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from strategy_statistics import Interval, Line, difference, interval
from threadpoolctl import threadpool_limits

from hybridlab.places import sample_configs
from hybridlab.search.known import KnownLandscape
from hybridlab.search.landscape import ClosedFormLandscape, signs
from hybridlab.search.opening import landscape_of
from hybridlab.search.pareto import hypervolume
from hybridlab.search.samplers import SAMPLERS, make_sampler
from hybridlab.search.spec import read_search
from hybridlab.search.study import ask, completed, open_study, search
from hybridlab.search.trained_table import TASKS, TableLandscape, shipped_table

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
AT = (50, 100, 200, 500)
OURS, PEERS = "cost_aware", ("tpe", "nsga2", "random")
CLOSED_FORM = "closed_form"
SPACES = (CLOSED_FORM, *TASKS)
SHARES = {200: 0.96, 500: 0.98}
OURS_AT, PEERS_AT = 100, 500
ASK_AT, ASK_MS, ASKS = 2_000, 150.0, 10
Shares = dict[str, dict[int, list[float]]]
"""By sampler and number of trials, a share of the exact hypervolume for each seed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=SPACES)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--trials", type=int, default=AT[-1])
    parser.add_argument(
        "--ask", type=int, default=ASK_AT, help="trials before asks are timed; 0: none"
    )
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    content: dict[str, Any] = {"seeds": options.seeds, "ask_at": options.ask}
    lines: list[Line] = []
    for space in options.spaces:
        landscape = opened(space)
        shares = compared(landscape, options)
        asks: dict[str, float] = {}
        if isinstance(landscape, ClosedFormLandscape):
            asks = {n: ask_ms(landscape, n, options.ask) for n in options.samplers if options.ask}
            lines += judged(shares, asks if options.ask == ASK_AT else {})
        else:
            lines += judged_on_table(space, shares)
        report(shares, asks)
        content[space] = {
            "designs": landscape.space.size,
            "exact_hypervolume": landscape.exact()[1],
            "shares": shares,
            "ask_ms": asks,
        }
    print()
    for line in lines:
        print(f"{'met    ' if line.met else 'NOT MET'}  {line.what}: {line.found}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    content["lines"] = [vars(line) for line in lines]
    (RESULTS / "search.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if not all(line.met for line in lines):
        raise SystemExit(1)


def opened(space: str) -> KnownLandscape:
    """Return the landscape of a space's name, and say how large it is; its exact front is worked out."""
    began = time.process_time()
    landscape: KnownLandscape
    if space == CLOSED_FORM:
        found = landscape_of(read_search(sample_configs() / "searches" / "closed_form.yaml"))
        assert isinstance(found, ClosedFormLandscape)
        landscape = found
    else:
        landscape = TableLandscape(shipped_table(), space)
    landscape.exact()
    print(
        f"\n{space}: {landscape.space.size:,} designs, {len(landscape.true_front())} on the exact front, "
        f"found in {time.process_time() - began:.1f} s of processor time",
        flush=True,
    )
    return landscape


def compared(landscape: KnownLandscape, options: argparse.Namespace) -> Shares:
    """Run all samplers with all seeds, in turns."""
    at = [trials for trials in AT if trials <= options.trials]
    shares: Shares = {name: {trials: [] for trials in at} for name in options.samplers}
    for seed in options.seeds:
        for name in options.samplers:
            found = run(landscape, name, seed, at)
            for trials, share in found.items():
                shares[name][trials].append(share)
            told = "  ".join(f"{trials}: {share:.4f}" for trials, share in found.items())
            print(f"seed {seed}  {name:<11} {told}", flush=True)
    return shares


def run(landscape: KnownLandscape, name: str, seed: int, at: list[int]) -> dict[int, float]:
    """Return the share of the exact hypervolume after so many trials of one sampler and seed."""
    sampler = make_sampler(name, landscape, seed=seed, trials=at[-1])
    study = open_study(landscape, sampler)
    search(study, landscape, at[-1], seed=seed)
    reference, exact = landscape.exact()
    done = completed(study)
    points = np.array([trial.values for trial in done]) * signs(landscape)
    numbers = np.array([trial.number for trial in done])
    return {n: hypervolume(points[numbers < n], reference) / exact for n in at}


def ask_ms(landscape: ClosedFormLandscape, name: str, trials: int) -> float:
    """Return processor milliseconds of one ask after so many trials, the median of ten."""
    study = open_study(landscape, make_sampler("random", landscape))
    # The hand designs are among them: asks for those cost nothing, and would be what is timed.
    hand = landscape.space.codes(landscape.hand_designs())
    drawn = landscape.space.random(np.random.default_rng(0), trials - len(hand))
    rows = np.concatenate((hand, drawn))
    kinds = dict(landscape.space.distributions())
    for row, values in zip(rows, landscape.form.evaluate(rows), strict=True):
        design = landscape.space.design(row)
        study.add_trial(
            optuna.trial.create_trial(params=design, distributions=kinds, values=list(values))
        )
    study.sampler = make_sampler(name, landscape, seed=1, trials=2 * trials)
    times = []
    for _ in range(ASKS + 1):
        began = time.process_time()
        trial = ask(study, landscape)
        times.append(1e3 * (time.process_time() - began))
        row = landscape.space.codes([trial.params])[0]
        study.tell(trial, landscape.measure(row, 0).values)
    return statistics.median(times[1:])  # the first one reads the study, once


def judged(shares: Shares, asks: dict[str, float]) -> list[Line]:
    """Return the lines of the closed form that what was run can speak of."""
    rows = intervals(shares)
    lines = [
        Line(
            f"{OURS}, share of the exact hypervolume at {trials} trials, at least {least}",
            rows[OURS][trials].words(4, sign=False),
            rows[OURS][trials].mean >= least,
        )
        for trials, least in SHARES.items()
        if trials in rows.get(OURS, {})
    ]
    if OURS in asks:
        what = f"{OURS}, processor time of an ask at {ASK_AT:,} trials, under {ASK_MS:g} ms"
        lines.append(Line(what, f"{asks[OURS]:.0f} ms", asks[OURS] < ASK_MS))
    return lines


def judged_on_table(task: str, shares: Shares) -> list[Line]:
    """Return the line of the table on a task, where ours and all peers were run for long enough."""
    ours = shares.get(OURS, {}).get(OURS_AT)
    peers = {n: shares[n][PEERS_AT] for n in PEERS if PEERS_AT in shares.get(n, {})}
    if ours is None or len(peers) < len(PEERS):
        return []
    best = max(peers, key=lambda name: statistics.mean(peers[name]))
    gap = difference(ours, peers[best])
    return [
        Line(
            f"{OURS} on {task}, share at {OURS_AT} trials, at least the best of {', '.join(PEERS)} at {PEERS_AT}",
            f"{interval(ours).words(4, sign=False)} against {interval(peers[best]).words(4, sign=False)} "
            f"({best}), difference by seed {gap.words(4)}",
            statistics.mean(ours) >= statistics.mean(peers[best]),
        )
    ]


def intervals(shares: Shares) -> dict[str, dict[int, Interval]]:
    """Return means over the seeds, with their 95 % intervals."""
    return {
        name: {trials: interval(values) for trials, values in by_trials.items()}
        for name, by_trials in shares.items()
    }


def report(shares: Shares, asks: dict[str, float]) -> None:
    """Print the table: mean and half of the 95 % interval over the seeds."""
    rows = intervals(shares)
    at = list(next(iter(rows.values())))
    print(
        f"\n{'sampler':<12}" + "".join(f"{f'{trials} trials':>18}" for trials in at) + "   ask, ms"
    )
    for name, by_trials in rows.items():
        cells = "".join(f"{by_trials[trials].words(4, sign=False):>18}" for trials in at)
        print(f"{name:<12}{cells}" + (f"{asks[name]:>10.0f}" if name in asks else ""))


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
