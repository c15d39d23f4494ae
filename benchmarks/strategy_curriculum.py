"""Steps until 19 of 20 answers are right, with stages from easy to hard and without: recall of 16 pairs.

The setting is that of ``curriculum_recall.py``. A training that does not get there counts as the most steps there are,
so that a ratio with one of them is a bound; the table says how many got there.
"""

from __future__ import annotations

import math
from typing import Any

from curriculum_recall import DESIGNS, TARGET, WAYS, steps_to_target
from strategy_statistics import Told, difference, verdict
from strategy_trainings import Budget, Found, Job, key, values

STEPS = 2000


def jobs(budget: Budget, found: Found) -> list[Job]:
    """Return a training of each design in each way with each seed."""
    return [job for seed in budget.seeds for job in _of(budget, seed)]


def run(job: Job) -> dict[str, Any]:
    """Train until the target or the last step."""
    return steps_to_target(job["of"], job["arm"], job["seed"], job["steps"])


def told(budget: Budget, found: Found) -> Told:
    """Compare the steps of each way with those without stages, as a ratio (geometric mean over seeds)."""
    says = Told(("network", "way", "steps to accuracy by seed", "steps over plain, 95 %", ""))
    for design in DESIGNS:
        logs = {way: _logs(design, way, budget, found) for way in WAYS}
        for way in WAYS:
            every = [job for job in jobs(budget, found) if (job["of"], job["arm"]) == (design, way)]
            steps = values(found, every, "reached")
            shown = ", ".join(
                f"> {budget.steps(STEPS)}" if one is None else str(one) for one in steps
            )
            if way == "plain":
                says.rows.append((design, way, shown, "", ""))
                continue
            ratio = difference(logs[way], logs["plain"])
            ends = (
                f" ({math.exp(ratio.low):.2f} to {math.exp(ratio.high):.2f})"
                if math.isfinite(ratio.half)
                else ""
            )
            word = verdict(ratio, "fewer steps", "more steps", higher_is_better=False)
            if set(logs[way]) == set(logs["plain"]) == {math.log(budget.steps(STEPS))}:
                word = "neither got there"
            says.rows.append((design, way, shown, f"{math.exp(ratio.mean):.2f}{ends}", word))
    says.notes.append(
        f"Accuracy of {TARGET} on validation, which asks for 16 pairs throughout; scored every 50 steps. "
        "What did not get there counts as the last step."
    )
    return says


def _of(budget: Budget, seed: int) -> list[Job]:
    return [
        {
            "section": "curriculum",
            "of": design,
            "arm": way,
            "steps": budget.steps(STEPS),
            "setting": repr((DESIGNS[design], WAYS[way])),
            "seed": seed,
        }
        for design in DESIGNS
        for way in WAYS
    ]


def _logs(design: str, way: str, budget: Budget, found: Found) -> list[float]:
    """Return the logarithm of the steps by seed."""
    every = [job for job in jobs(budget, found) if (job["of"], job["arm"]) == (design, way)]
    return [math.log(found[key(job)]["reached"] or job["steps"]) for job in every]
