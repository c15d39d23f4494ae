"""Balanced against unbalanced experts: how even their load is, and what that costs in loss.

A small hybrid with two mixtures of eight experts reads bytes of Python. Loads are measured over the whole validation
split after training, for each mixture: the largest over the mean, 1 where all experts work the same.
"""

from __future__ import annotations

from typing import Any

from strategy_statistics import Line, Told, difference, interval, verdict
from strategy_trainings import Budget, Found, Job, trained, values

MOE = "{{use: moe, experts: 8, top_k: 2, ratio: 1, {how}}}"
NETWORK = """name: experts
width: 32
nodes:
  - {{use: mamba2, state: 16, heads: 2}}
  - {moe}
  - {{use: attention, heads: 2}}
  - {moe}
"""
WAYS = {
    "unbalanced": "routing: softmax, balance_weight: 0",
    "loss × 0.01": "routing: softmax, balance_weight: 0.01",
    "loss × 0.1": "routing: softmax, balance_weight: 0.1",
    "bias": "routing: sigmoid, bias_step: 0.001",
}
"""None; the component's own balance loss as it comes, and ten times that; and its bias without a loss."""
DEFAULT = "loss × 0.01"
STEPS, BATCH, LENGTH = 400, 16, 128
MOST_LOAD, MOST_LOSS = 1.3, 2.0
"""The largest load over the mean; and percent of bits per byte above unbalanced."""


def jobs(budget: Budget, found: Found) -> list[Job]:
    """Return a training of each way with each seed."""
    about = {
        "section": "experts",
        "of": "experts",
        "steps": budget.steps(STEPS),
        "batch": BATCH,
        "length": LENGTH,
    }
    return [
        {**about, "arm": way, "text": _text(how), "seed": seed}
        for seed in budget.seeds
        for way, how in WAYS.items()
    ]


def run(job: Job) -> dict[str, Any]:
    """Train once and measure the load of every expert on the validation split."""
    settings = {
        "task": "python_bytes",
        "task_params": {"length": job["length"]},
        "steps": job["steps"],
        "batch": job["batch"],
        "seed": job["seed"],
    }
    done = trained(job["text"], settings)
    shares = loads(done.model, done.task)
    return {
        "test_bits_per_byte": done.metrics["test_bits_per_byte"],
        "loads": shares,
        "max_over_mean": max(max(load) * len(load) for load in shares.values()),
    }


def loads(model: Any, task: Any) -> dict[str, list[float]]:
    """Return each expert's share of the choices over the validation split, by the mixture's path."""
    import torch

    model.eval()
    sums: dict[str, Any] = {}
    positions = 0
    with torch.no_grad():
        for batch in task.evaluation("val"):
            model(batch.inputs)
            weight = batch.inputs.numel()
            positions += weight
            for path, said in model.reports().items():
                if isinstance(load := said.get("load"), list):
                    share = weight * torch.tensor(load, dtype=torch.float64)
                    sums[path] = sums.get(path, 0) + share
    return {path: (total / positions).tolist() for path, total in sums.items()}


def told(budget: Budget, found: Found) -> Told:
    """Compare each way of balancing with none, and judge whether one keeps to both bounds."""
    arms: dict[str, list[Job]] = {}
    for job in jobs(budget, found):
        arms.setdefault(job["arm"], []).append(job)
    free = values(found, arms["unbalanced"], "test_bits_per_byte")
    says = Told(
        ("balancing", "max/mean load by seed", "bits per byte", "loss over unbalanced, 95 %", "")
    )
    good: dict[str, bool] = {}
    for way, of in arms.items():
        bits = values(found, of, "test_bits_per_byte")
        shares = [100 * (one / other - 1) for one, other in zip(bits, free, strict=True)]
        more = interval(shares)
        most = values(found, of, "max_over_mean")
        cells = (way, ", ".join(f"{one:.2f}" for one in most), interval(bits).words(sign=False))
        if way == "unbalanced":
            says.rows.append((*cells, "", ""))
            continue
        word = verdict(difference(bits, free), "lower loss", "higher loss", higher_is_better=False)
        says.rows.append((*cells, f"{more.words(2)} %", word))
        good[way] = max(most) <= MOST_LOAD and more.mean <= MOST_LOSS
        says.notes.append(
            f"{way}: {'within' if good[way] else 'NOT within'} both bounds (load {max(most):.2f} at worst, "
            f"mean loss {more.mean:+.2f} %)"
        )
    says.lines.append(
        Line(
            f"a way of balancing has a max/mean load of at most {MOST_LOAD} in each mixture of each seed, at a mean "
            f"loss at most {MOST_LOSS:g} % above unbalanced",
            ", ".join(way for way, met in good.items() if met) or "none",
            any(good.values()),
        )
    )
    says.notes.append(f"Of two mixtures the worse is told; the component's default is {DEFAULT}.")
    return says


def _text(how: str) -> str:
    return NETWORK.format(moe=MOE.format(how=how))
