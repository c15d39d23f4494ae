"""A deep hybrid that is broken on purpose, and the same one after the first remedy that its gradient flow suggests.

The ratio is that of the largest to the smallest gradient norm of single components at one step (``training/flow.py``).
The remedy is read off the broken run and applied by code, as the page does it in one click.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from strategy_statistics import Line, Told, difference, interval, verdict
from strategy_trainings import Budget, Found, Job, fingerprint, key, trained, values

FILE = Path(__file__).parent.parent / "tests" / "training" / "broken_deep_hybrid.yaml"
STEPS = 400
SETTINGS = {"task": "parity", "task_params": {"length": 8, "longer": 12}, "batch": 32}
BROKEN, MENDED = 1000.0, 30.0


def jobs(budget: Budget, found: Found) -> list[Job]:
    """Return one pair of trainings, broken and mended, for each seed."""
    return [
        {
            "section": "broken",
            "of": "broken_deep_hybrid",
            "arm": "broken and mended",
            "fingerprint": fingerprint(FILE.read_text(encoding="utf-8")),
            "steps": budget.steps(STEPS),
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
    settings = {
        **job["settings"],
        "steps": job["steps"],
        "learning_rate": 5e-3,
        "component_metrics_every": 10,
        "seed": job["seed"],
    }
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
    says = Told(("network", "gradient ratio by seed", "loss at the end", "test accuracy"))
    remedies = values(found, every, "remedy")
    lacking = [job["seed"] for job, one in zip(every, remedies, strict=True) if one is None]
    if lacking:
        what = "a remedy is suggested for every seed"
        says.lines.append(Line(what, f"none for seeds {lacking}", False))
        return says
    for name in ("before", "after"):
        low, high = (values(found, every, f"{name}_{end}_ratio") for end in ("smallest", "largest"))
        spans = (f"{a:,.0f} to {b:,.0f}" for a, b in zip(low, high, strict=True))
        ends = (values(found, every, f"{name}_{what}") for what in ("loss", "accuracy"))
        says.rows.append(
            (
                "as it is" if name == "before" else f"with: {remedies[0]}",
                "; ".join(spans),
                *(interval(end).words(sign=False) for end in ends),
            )
        )
    smallest = min(values(found, every, "before_smallest_ratio"))
    largest = max(values(found, every, "after_largest_ratio"))
    gain = difference(
        values(found, every, "after_accuracy"), values(found, every, "before_accuracy")
    )
    loss = statistics.mean(values(found, every, "after_loss"))
    says.lines += [
        Line(
            f"broken: ratio over {BROKEN:,.0f} at every step", f"{smallest:,.0f}", smallest > BROKEN
        ),
        Line(f"mended: ratio under {MENDED:g} at every step", f"{largest:.1f}", largest < MENDED),
        Line(
            "mended: it learns (accuracy above the broken one's, 95 %; loss under 0.6, chance has 0.69)",
            f"{gain.words()} ({verdict(gain, 'better', 'worse')}), loss {loss:.3f}",
            gain.low > 0 and loss < 0.6,
        ),
    ]
    says.notes.append(f"Finding of the first seed: {found[key(every[0])]['finding']}.")
    says.notes.append(f"Remedies taken: {', '.join(remedies)}.")
    return says


def _measured(text: str, settings: dict[str, Any]) -> tuple[dict[str, float], Any]:
    """Train once; return ratios, loss and accuracy, and the whole flow."""
    from hybridlab.components.registry import palette
    from hybridlab.training.flow import flow

    done = trained(text, settings)
    info = palette()
    seen = flow(
        done.model.architecture,
        lambda use: str(info[use].kind) if use in info else None,
        done.curves,
    )
    ratios = list(seen.ratios().values())
    losses = done.curves["loss"][1]
    return {
        "smallest_ratio": min(ratios, default=math.nan),
        "largest_ratio": max(ratios, default=math.nan),
        "loss": statistics.mean(losses[-20:]),
        "accuracy": done.metrics["test_accuracy"],
    }, seen


def _named(name: str, values_of: dict[str, float]) -> dict[str, float]:
    return {f"{name}_{what}": value for what, value in values_of.items()}
