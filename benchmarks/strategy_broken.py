"""A deep hybrid that is broken on purpose, and the same one after the first remedy that its gradient flow suggests.

The ratio is that of the largest to the smallest gradient norm of single components at one step (``training/flow.py``).
The remedy is what the page would offer after the first ``LOOK`` steps, applied by code as one click does it. Ratios are
judged over those steps, in which neither network has learnt; the largest later one is told beside them, since a network
that has learnt has next to no gradient anywhere, and one that is broken may still get loose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strategy_statistics import Line, Told, difference, interval, verdict
from strategy_trainings import Budget, Found, Job, fingerprint, key, trained, values

FILE = Path(__file__).parent.parent / "tests" / "training" / "broken_deep_hybrid.yaml"
STEPS, LOOK, EVERY = 400, 50, 25
"""Steps of both trainings, those after which the page is looked at, and those between scores."""
SETTINGS = {
    "task": "parity",
    "task_params": {"length": 8, "longer": 12},
    "batch": 32,
    "learning_rate": 5e-3,
    "component_metrics_every": 10,
    "eval_every": EVERY,
}
BROKEN, MENDED = 1000.0, 30.0
CHANCE, LEARNT = 0.5, 0.9
WHAT = ("smallest_ratio", "largest_ratio", "later_ratio", "reached", "accuracy")


def jobs(budget: Budget, found: Found) -> list[Job]:
    """Return one pair of trainings, broken and mended, for each seed."""
    return [
        {
            "section": "broken",
            "of": "broken_deep_hybrid",
            "arm": "broken and mended",
            "fingerprint": fingerprint(FILE.read_text(encoding="utf-8")),
            "steps": budget.steps(STEPS),
            "look": LOOK,
            "settings": SETTINGS,
            "seed": seed,
        }
        for seed in budget.seeds
    ]


def run(job: Job) -> dict[str, Any]:
    """Train the broken network, take the first remedy of its first finding, and train again."""
    from hybridlab.architecture.document import loads
    from hybridlab.training.flow_findings import findings
    from hybridlab.training.remedies import applied

    text = FILE.read_text(encoding="utf-8")
    settings = {**job["settings"], "steps": job["steps"], "seed": job["seed"]}
    before, flow = _measured(text, settings)
    found = findings(flow, loads(text))
    offered = [(one, remedy) for one in found for remedy in one.remedies]
    if not offered:
        return {**_named("before", before), "finding": None, "remedy": None}
    finding, remedy = offered[0]
    text, settings = applied(remedy, text, settings)
    after, _ = _measured(text, settings)
    return {
        **_named("before", before),
        **_named("after", after),
        "finding": finding.sentence,
        "remedy": remedy.title,
    }


def told(budget: Budget, found: Found) -> Told:
    """Compare the network before and after the remedy, and judge both ratios and whether it learns."""
    every = jobs(budget, found)
    says = Told(
        (
            "network",
            f"gradient ratio, first {LOOK} steps",
            "largest later",
            f"steps to {LEARNT:.0%}",
            "accuracy",
        )
    )
    remedies = values(found, every, "remedy")
    lacking = [job["seed"] for job, one in zip(every, remedies, strict=True) if one is None]
    if lacking:
        what = "a remedy is suggested for every seed"
        says.lines.append(Line(what, f"none for seeds {lacking}", False))
        return says
    of = {
        (name, what): values(found, every, f"{name}_{what}")
        for name in ("before", "after")
        for what in WHAT
    }
    for name, words in (("before", "as it is"), ("after", f"with: {remedies[0]}")):
        spans = zip(of[name, "smallest_ratio"], of[name, "largest_ratio"], strict=True)
        says.rows.append(
            (
                words,
                "; ".join(f"{low:,.0f} to {high:,.0f}" for low, high in spans),
                "; ".join(f"{one:,.0f}" for one in of[name, "later_ratio"]),
                "; ".join(str(one or "never") for one in of[name, "reached"]),
                interval(of[name, "accuracy"]).words(sign=False),
            )
        )
    smallest, largest = min(of["before", "smallest_ratio"]), max(of["after", "largest_ratio"])
    learnt = interval(of["after", "accuracy"])
    says.lines += [
        Line(f"broken: ratio over {BROKEN:,.0f}", f"{smallest:,.0f}", smallest > BROKEN),
        Line(f"mended: ratio under {MENDED:g}", f"{largest:.1f}", largest < MENDED),
        Line(
            f"mended: it learns, test accuracy above chance of {CHANCE}",
            learnt.words(sign=False),
            learnt.low > CHANCE,
        ),
    ]
    gain = difference(of["after", "accuracy"], of["before", "accuracy"])
    sooner = difference(
        _steps(of["after", "reached"], budget), _steps(of["before", "reached"], budget)
    )
    says.notes += [
        f"Accuracy, mended less broken: {gain.words()}, {verdict(gain, 'better', 'worse')}. "
        f"Steps to {LEARNT:.0%}: {sooner.words(0)}, "
        f"{verdict(sooner, 'sooner', 'later', higher_is_better=False)} (never counts as the last step).",
        f"Finding of the first seed: {found[key(every[0])]['finding']}.",
        f"Remedies taken: {', '.join(dict.fromkeys(remedies))}.",
    ]
    return says


def _steps(reached: list[Any], budget: Budget) -> list[float]:
    return [float(one or budget.steps(STEPS)) for one in reached]


def _measured(text: str, settings: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Train once; return ratios, accuracy and when it was reached, and the flow of the first steps."""
    from hybridlab.components.registry import palette
    from hybridlab.training.flow import flow

    done = trained(text, settings)
    info = palette()

    def kinds(use: str) -> str | None:
        return str(info[use].kind) if use in info else None

    def seen(curves: dict[str, Any]) -> Any:
        return flow(done.model.architecture, kinds, curves)

    first = seen({name: _until(curve) for name, curve in done.curves.items()})
    ratios = list(first.ratios().values())
    later = [ratio for step, ratio in seen(done.curves).ratios().items() if step > LOOK]
    scores = zip(*done.curves["val_accuracy"], strict=True)
    return {
        "smallest_ratio": min(ratios),
        "largest_ratio": max(ratios),
        "later_ratio": max(later, default=max(ratios)),
        "reached": next((step for step, score in scores if score >= LEARNT), None),
        "accuracy": done.metrics["test_accuracy"],
    }, first


def _until(curve: tuple[list[int], list[float]]) -> tuple[list[int], list[float]]:
    """Return the part of a curve that is there after the first look."""
    kept = [(step, value) for step, value in zip(*curve, strict=True) if step <= LOOK]
    return [step for step, _ in kept], [value for _, value in kept]


def _named(name: str, values_of: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}_{what}": value for what, value in values_of.items()}
