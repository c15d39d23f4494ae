"""Component rates against the best single rate, on three hybrids and the digits, pixel by pixel.

The best single rate is looked for in two rounds of three and two; rates by component start from it. Both are chosen by
their mean validation accuracy and compared by their test accuracy, on the same seeds.
"""

from __future__ import annotations

import statistics
from typing import Any

from strategy_statistics import Told, difference, interval, verdict
from strategy_trainings import Budget, Found, Job, fingerprint, key, preset, trained, values

from hybridlab.training.group_spec import SUGGESTIONS

HYBRIDS = ("hymba_mini", "griffin_mini", "lfm2_mini")
STEPS, BATCH = 250, 32
ROUGH = (1e-3, 3e-3, 1e-2)
FINE = (0.58, 1.73)
"""Factors on the best of the rough rates."""
MEMORIES = SUGGESTIONS[0].group.model_dump(exclude_unset=True)
"""What sets how long a state-space layer remembers, at a tenth of the rate: the page's own suggestion."""
WAYS: dict[str, list[dict[str, Any]]] = {
    "mixers × 3": [{"name": "mixers", "kind": "token_mixer", "rate": 3.0}],
    "mixers × 1/3": [{"name": "mixers", "kind": "token_mixer", "rate": 1 / 3}],
    "input, head × 3": [
        {"name": "input", "kind": "input", "rate": 3.0},
        {"name": "head", "kind": "head", "rate": 3.0},
    ],
    "memories × 1/10": [MEMORIES],
}
WITHOUT_MEMORIES = {"lfm2_mini"}


def jobs(budget: Budget, found: Found) -> list[Job]:
    """Return all trainings that are known to be wanted: rates by component once the best single one is known."""
    wanted: list[Job] = []
    for name in HYBRIDS:
        for arms in (_rough, _fine, _ways):
            more = arms(name, budget, found)
            wanted += more
            if not more or not all(key(job) in found for job in more):
                break
    return wanted


def run(job: Job) -> dict[str, Any]:
    """Train once; a loss that is not finite gives no accuracy."""
    from hybridlab.errors import RunError

    settings = {
        "task": "digits_sequence",
        "steps": job["steps"],
        "batch": job["batch"],
        "learning_rate": job["rate"],
        "warmup_steps": job["steps"] // 10,
        "groups": job["groups"],
        "seed": job["seed"],
    }
    try:
        metrics = trained(preset(job["of"]), settings).metrics
    except RunError as error:
        if "became" not in str(error):  # another error than a loss that is not finite
            raise
        return {"val_accuracy": 0.0, "test_accuracy": 0.0, "diverged": True}
    return {name: metrics[name] for name in ("val_accuracy", "test_accuracy")}


def told(budget: Budget, found: Found) -> Told:
    """Compare on each hybrid the best rates by component with the best single one."""
    says = Told(
        ("hybrid", "best single rate", "accuracy", "best by component", "difference, 95 %", "")
    )
    for name in HYBRIDS:
        single = _best(_by_arm(_rough(name, budget, found) + _fine(name, budget, found)), found)
        ways = _by_arm(_ways(name, budget, found))
        best = _best(ways, found)
        alone = values(found, single, "test_accuracy")
        gain = difference(values(found, best, "test_accuracy"), alone)
        says.rows.append(
            (
                name,
                f"{single[0]['rate']:.2g}",
                interval(alone).words(sign=False),
                best[0]["arm"],
                gain.words(),
                verdict(gain, "component rates are better", "component rates are worse"),
            )
        )
        each = [
            f"{arm} {difference(values(found, of, 'test_accuracy'), alone).words()}"
            for arm, of in ways.items()
        ]
        says.notes.append(f"{name}, all ways against the best single rate: {'; '.join(each)}")
    says.notes.append(
        "Chosen by mean validation accuracy over the seeds, compared by test accuracy on the same seeds; single rates "
        "had five tries, rates by component three or four from the best of them."
    )
    return says


def _rough(name: str, budget: Budget, found: Found) -> list[Job]:
    return [job for rate in ROUGH for job in _arm(name, "single", rate, [], budget)]


def _fine(name: str, budget: Budget, found: Found) -> list[Job]:
    rate = _best(_by_arm(_rough(name, budget, found)), found)[0]["rate"]
    return [
        job for by in FINE for job in _arm(name, "single", float(f"{rate * by:.3g}"), [], budget)
    ]


def _ways(name: str, budget: Budget, found: Found) -> list[Job]:
    both = _rough(name, budget, found) + _fine(name, budget, found)
    rate = _best(_by_arm(both), found)[0]["rate"]
    return [
        job
        for way, groups in WAYS.items()
        if not (way.startswith("memories") and name in WITHOUT_MEMORIES)
        for job in _arm(name, way, rate, groups, budget)
    ]


def _arm(
    name: str, arm: str, rate: float, groups: list[dict[str, Any]], budget: Budget
) -> list[Job]:
    """Return one way of training one hybrid, with every seed."""
    about = {
        "section": "rates",
        "of": name,
        "arm": arm,
        "rate": rate,
        "groups": groups,
        "steps": budget.steps(STEPS),
        "batch": BATCH,
        "fingerprint": fingerprint(preset(name)),
    }
    return [{**about, "seed": seed} for seed in budget.seeds]


def _by_arm(every: list[Job]) -> dict[str, list[Job]]:
    arms: dict[str, list[Job]] = {}
    for job in every:
        name = f"{job['rate']:g}" if job["arm"] == "single" else job["arm"]
        arms.setdefault(name, []).append(job)
    return arms


def _best(arms: dict[str, list[Job]], found: Found) -> list[Job]:
    """Return the trainings of the way with the best mean validation accuracy."""
    return max(arms.values(), key=lambda of: statistics.mean(values(found, of, "val_accuracy")))
