"""The page of MAD's tasks in small: ranks here and published, their correlation, and how little it says."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mad_profile import SUBJECTS, TASKS, WIDTH, published

ABOUT = """\
# MAD's six tasks in small: the ranking here and the published one

Five architectures on the six tasks of [MAD](https://arxiv.org/abs/2403.17844), *measured* in a profile that is small
enough for one processor core, beside the accuracies that were published
([MAD](https://arxiv.org/abs/2403.17844), with DeltaNet in [its authors' table](https://arxiv.org/abs/2406.06484)).
{told}

{summary}

Spearman's ρ is 1 where both rankings are the same and −1 where one is the other turned round. p is exact and
two-sided: the share of the 120 orders of five accuracies whose ρ is at least as far from 0. **Five points say little**:
without ties ρ = ±0.9 has p = 0.083, so under 0.05 is only ρ = ±1 (p = 0.017), and six tasks are six tries.
Nothing here is evidence about the paper; it says how far these minutes can stand in for it.

## What is smaller, and why

| | the paper | here |
| --- | --- | --- |
| settings of a task | 66 in all, from easy to hard; published is their mean | one a task |
| training | 12,800 samples, 200 epochs in batches of 128: 20,000 steps | {steps} steps, up to {longest:.0f} s of CPU |
| learning rate, weight decay | the best of six pairs, chosen on the test set | {rates}; no decay |
| network | two blocks mixer → SwiGLU, width 128 | two blocks mixer → SwiGLU, width {width} |
| accuracy | mean over tokens of the vocabulary | mean over all scored answers |

Scored answers are the paper's: of recall only values of keys that came before. Validation has 256 sequences, test
1,280. Mixers are this project's, with their defaults: attention with rotary positions and four heads, Hyena of order 2
whose filters fade within the task's length, Mamba with 16 states, GLA without short convolutions, DeltaNet with them.
Accuracies are ranked as published, to 0.1 %; equal ones share the mean of their ranks. A training whose loss was not
finite counts as 0. Sizes and steps were set after single trial trainings, most of them of the Transformer, and before
any task had all five architectures; since then nothing was tried and left out.

Machine: {machine}. Dates: {dates}. Commits: {commits}. The command, which goes on where it was stopped:
`python benchmarks/mad_ranking.py`. Every training by itself stands in [mad_ranking.json](mad_ranking.json)."""


@dataclass(frozen=True)
class Result:
    """One training: what it was of, what came out, and where."""

    architecture: str
    fingerprint: str
    task: str
    seed: int
    learning_rate: float
    budget: dict[str, Any]
    val_accuracy: float | None
    """Of the final weights, as the next one; None where the loss was not finite."""
    accuracy: float | None
    """On the test split."""
    cpu_seconds: float
    params: int
    chance: float
    commit: str
    date: str
    machine: str


def ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value, 1 for the largest; equal ones share the mean of theirs."""
    return [
        sum(other > value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def spearman(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, Pearson's of the ranks; None where all of one side are equal."""
    if len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None
    return statistics.correlation(ranks(ours), ranks(theirs))


def p_value(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Return the exact two-sided p: the share of all orders whose correlation is at least as far from 0."""
    found = spearman(ours, theirs)
    if found is None:
        return None
    orders = list(itertools.permutations(ours))
    all_found = (spearman(order, theirs) or 0.0 for order in orders)
    return sum(abs(one) >= abs(found) - 1e-9 for one in all_found) / len(orders)


def chosen(results: Sequence[Result]) -> list[Result]:
    """Return the results of the learning rate with the best mean validation accuracy, of the rates all seeds have."""
    by_rate: dict[float, list[Result]] = {}
    for one in results:
        by_rate.setdefault(one.learning_rate, []).append(one)
    most = max(map(len, by_rate.values()))
    whole = [runs for runs in by_rate.values() if len(runs) == most]
    best = max(whole, key=lambda runs: statistics.mean(run.val_accuracy or 0.0 for run in runs))
    return sorted(best, key=lambda run: run.seed)


def percent(runs: Sequence[Result]) -> float:
    """Return the mean test accuracy over seeds, in % to one digit, as published ones are."""
    return round(100 * statistics.mean(run.accuracy or 0.0 for run in runs), 1)


@dataclass(frozen=True)
class Ranking:
    """A task's accuracies in %, here and published, by architecture."""

    task: str
    runs: dict[str, list[Result]]

    @property
    def ours(self) -> list[float]:
        """Accuracies here."""
        return [percent(runs) for runs in self.runs.values()]

    @property
    def theirs(self) -> list[float]:
        """Published accuracies."""
        return [published(subject, self.task) for subject in self.runs]

    @property
    def whole(self) -> bool:
        """Whether all architectures are there."""
        return len(self.runs) == len(SUBJECTS)


def rankings(results: Sequence[Result]) -> list[Ranking]:
    """Return what there is of each task."""
    found = []
    for task in TASKS:
        runs: dict[str, list[Result]] = {}
        for subject in SUBJECTS:
            own = [r for r in results if (r.task, r.architecture) == (task, subject)]
            if own:
                runs[subject] = chosen(own)
        if runs:
            found.append(Ranking(task, runs))
    return found


def page(results: Sequence[Result]) -> str:
    """Return the page from results of today's profile: a table of correlations, then one for each task."""
    found = rankings(results)
    runs = [run for ranking in found for many in ranking.runs.values() for run in many]
    lacking = len(TASKS) * len(SUBJECTS) - sum(len(one.runs) for one in found)
    seeds = sorted({run.seed for run in runs})
    told = (
        f"Seeds {', '.join(map(str, seeds))}."
        if len(seeds) > 1
        else "One seed, so luck counts too."
    )
    if lacking:
        told += f" **Not finished: {lacking} of {len(TASKS) * len(SUBJECTS)} are still to come.**"
    rates = sorted({run.learning_rate for run in results})
    many = ", ".join(f"{rate:g}" for rate in rates)
    steps = [small.steps for small in TASKS.values()]
    facts = {
        "told": told,
        "summary": "\n".join(summary(found)),
        "steps": f"{min(steps):,} to {max(steps):,}",
        "longest": max((run.cpu_seconds for run in results), default=math.nan),
        "rates": f"the best of {many}, chosen on validation"
        if len(rates) > 1
        else f"{many} for all",
        "width": WIDTH,
        "machine": "; ".join(sorted({run.machine for run in results})) or "no result yet",
        "dates": ", ".join(sorted({run.date for run in results})),
        "commits": ", ".join(sorted({run.commit for run in results})),
    }
    lines = [ABOUT.format_map(facts)]
    for ranking in found:
        small = TASKS[ranking.task]
        chance = next(iter(ranking.runs.values()))[0].chance
        lines.append(
            f"## {small.title}\n\n`{ranking.task}`, {small.steps:,} steps of {small.batch} samples, "
            f"{sizes(small.sizes)}: {small.why}. Guessing gives {100 * chance:.1f} %. {sentence(ranking)}"
        )
        lines.append("\n".join(table(ranking)))
    return "\n\n".join(lines) + "\n"


def sizes(given: dict[str, Any]) -> str:
    """Return parameters in words."""
    return ", ".join(f"`{name}` {value:,}" for name, value in given.items())


def summary(found: Sequence[Ranking]) -> Iterator[str]:
    """Yield a table of the correlation of each task, line by line."""
    yield "| task | Spearman's ρ | p, exact | best here | best published |"
    yield "| --- | --- | --- | --- | --- |"
    for ranking in found:
        rho, p = spearman(ranking.ours, ranking.theirs), p_value(ranking.ours, ranking.theirs)
        figures = ["not finished", ""]
        if ranking.whole:
            figures = (
                ["none, all alike", ""] if rho is None or p is None else [signed(rho), f"{p:.3f}"]
            )
        best = [leaders(ranking.runs, ranking.ours), leaders(ranking.runs, ranking.theirs)]
        yield f"| {' | '.join([TASKS[ranking.task].title, *figures, *best])} |"


def leaders(runs: dict[str, list[Result]], values: Sequence[float]) -> str:
    """Return the names of those with the highest value."""
    pairs = zip(runs, values, strict=True)
    return ", ".join(SUBJECTS[name].title for name, value in pairs if value == max(values))


def sentence(ranking: Ranking) -> str:
    """Say what the correlation is worth."""
    rho, p = spearman(ranking.ours, ranking.theirs), p_value(ranking.ours, ranking.theirs)
    if not ranking.whole:
        return "Not all architectures are there yet, so there is no correlation."
    if rho is None or p is None:
        return "All reach the same here, so this task ranks nothing."
    word = "not told from chance" if p >= 0.05 else "unlikely by chance for this task alone"
    return f"ρ = {signed(rho)}, p = {p:.3f}: {word}."


def signed(rho: float) -> str:
    """Return a correlation with its sign."""
    return f"{rho + 0.0:+.2f}".replace("-", "−")


def table(ranking: Ranking) -> Iterator[str]:
    """Yield a task's table, the best here first, line by line."""
    yield "| architecture | accuracy here, % | published, % | rank here | published rank | rate | parameters | CPU s |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    here, there = ranks(ranking.ours), ranks(ranking.theirs)
    rows = zip(ranking.runs.items(), ranking.ours, ranking.theirs, here, there, strict=True)
    for (subject, runs), ours, theirs, rank, their_rank in sorted(rows, key=lambda row: row[3]):
        lost = sum(run.accuracy is None for run in runs)
        cells = (
            f"[{SUBJECTS[subject].title}]({SUBJECTS[subject].source})",
            f"{ours:.1f}" + (f" ({lost} diverged)" if lost else ""),
            f"{theirs:.1f}",
            f"{rank:g}",
            f"{their_rank:g}",
            f"{runs[0].learning_rate:g}",
            f"{runs[0].params:,}",
            f"{statistics.mean(run.cpu_seconds for run in runs):.0f}",
        )
        yield f"| {' | '.join(cells)} |"
