"""Digit, parity and strokes learnt together on one trunk, against the same network on each of them alone.

All get the same steps and batch; together, a step answers all three questions about the same digits.
"""

from __future__ import annotations

from typing import Any

from strategy_statistics import Told, difference, interval, verdict
from strategy_trainings import Budget, Found, Job, fingerprint, preset, trained, values

from hybridlab.training.transfer import Row

NETWORK = "lfm2_mini"
TASKS = ("digits_sequence", "digits_parity", "digits_strokes")
BALANCINGS = ("fixed", "uncertainty", "pcgrad")
STEPS, BATCH = 250, 32


def jobs(budget: Budget, found: Found) -> list[Job]:
    """Return a training on each task and one on all of them in each way, with each seed."""
    about = {
        "section": "tasks",
        "of": NETWORK,
        "fingerprint": fingerprint(preset(NETWORK)),
        "steps": budget.steps(STEPS),
        "batch": BATCH,
    }
    return [
        {**about, "arm": arm, "seed": seed}
        for seed in budget.seeds
        for arm in (*TASKS, *BALANCINGS)
    ]


def run(job: Job) -> dict[str, Any]:
    """Train on one task, or on all."""
    settings = {
        "task": job["arm"],
        "steps": job["steps"],
        "batch": job["batch"],
        "warmup_steps": job["steps"] // 10,
        "seed": job["seed"],
    }
    if job["arm"] in BALANCINGS:
        settings["task"] = TASKS[0]
        settings["tasks"] = {
            "of": [{"task": task} for task in TASKS],
            "sampling": "joint",
            "balancing": job["arm"],
            "cosines_every": 0,
        }
    metrics = trained(preset(NETWORK), settings).metrics
    if job["arm"] not in BALANCINGS:
        return {"test_accuracy": metrics["test_accuracy"]}
    return {task: metrics[f"test_accuracy_{task}"] for task in TASKS}


def told(budget: Budget, found: Found) -> Told:
    """Compare, for each task, each way of learning it with others to learning it alone."""
    arms: dict[str, list[Job]] = {}
    for job in jobs(budget, found):
        arms.setdefault(job["arm"], []).append(job)
    says = Told(("task", "alone", "with others, by", "accuracy", "difference, 95 %", ""))
    for task in TASKS:
        alone = values(found, arms[task], "test_accuracy")
        for way in BALANCINGS:
            both = values(found, arms[way], task)
            gain = difference(both, alone)
            says.rows.append(
                (
                    task,
                    interval(alone).words(sign=False),
                    way,
                    interval(both).words(sign=False),
                    gain.words(),
                    verdict(gain, "positive transfer", "negative transfer"),
                )
            )
        seeds = {f"seed {seed}": value for seed, value in zip(budget.seeds, alone, strict=True)}
        first = values(found, arms["fixed"], task)[0]
        page = Row(task, "test_accuracy", first, seeds, True).sentence()
        says.notes.append(f"What the page says of the first run with fixed weights: {page}")
    return says
