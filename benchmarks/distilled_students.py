"""A small student with a teacher against itself alone, for the same steps and seeds.

    python benchmarks/distilled_students.py
    python benchmarks/distilled_students.py --steps 60 --teacher-steps 60 --seeds 2 --output /tmp/students.json

One teacher is trained on the digits, pixel by pixel. A student of a quarter of its width is trained alone, with the
teacher's answers, and with its hidden states too; same steps, batches and first weights. What is told is the difference
in test accuracy to the student alone, by seed, with the 95 % interval of its mean (Student's t). Where that holds
zero, the table says that no difference was shown. There is no line to meet: it says what comes out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import find
from hybridlab.architecture.model import build
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import new_id
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.training.loop import train
from hybridlab.workflows.distill import outcome

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
TASK = "digits_sequence"
TEACHER = "lstm_attention_mini"
STUDENT = """name: small-student
width: 16
nodes:
  - {use: lstm}
  - {use: attention, heads: 2, qk_norm: true}
"""
WAYS: dict[str, dict[str, Any] | None] = {
    "alone": None,
    "answers": {"hard": 0.5, "logits": {"weight": 0.5, "temperature": 2.0}},
    "answers, hidden states": {
        "hard": 0.5,
        "logits": {"weight": 0.5, "temperature": 2.0},
        "hidden": {"weight": 0.1},
    },
}
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""The 97.5 % point of Student's t, by degrees of freedom."""


def trained(text: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train a text's architecture; return its test accuracy, seconds and, of a student, what it kept and saves."""
    what, spec = prepare({"task": TASK, "device": "cpu", **settings})
    model = build(fit(loads(text), what), what.input_type(), seed=spec.seed)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    metrics = train(model, what, spec, folder=folder).metrics
    found = {"test_accuracy": metrics["test_accuracy"], "seconds": time.perf_counter() - began}
    (folder / "architecture.yaml").write_text(text)
    (folder / "training.json").write_text(spec.model_dump_json())
    if spec.teacher is not None:
        told = outcome(model, what, spec, metrics)
        found |= {"kept": told["kept"], "saved": told["saved"]}
    return found


def difference(taught: list[float], alone: list[float]) -> dict[str, Any]:
    """Return the mean difference by seed, half of its 95 % interval, and what that says."""
    each = [a - b for a, b in zip(taught, alone, strict=True)]
    mean = statistics.mean(each)
    if len(each) < 2:
        return {"mean": mean, "half": math.inf, "says": "one seed says nothing"}
    half = T_975[len(each) - 1] * statistics.stdev(each) / math.sqrt(len(each))
    says = "better than alone" if mean > 0 else "worse than alone"
    if abs(mean) <= half:
        says = "no difference shown"
    return {"mean": mean, "half": half, "says": says}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400, help="of each student")
    parser.add_argument("--teacher-steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 11))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "distilled_students.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as home:
        os.environ["HYBRIDLAB_HOME"] = home
        run = new_id()
        long = {"steps": options.teacher_steps, "eval_every": options.teacher_steps, "seed": 100}
        text = find(TEACHER).read_text(encoding="utf-8")
        teacher = trained(text, long, run_folder(run))
        print(f"teacher {TEACHER}: test accuracy {teacher['test_accuracy']:.3f}", flush=True)
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for seed in range(options.seeds):
            for way, asked in WAYS.items():
                settings = {"steps": options.steps, "eval_every": options.steps, "seed": seed}
                if asked is not None:
                    settings["teacher"] = {"run": run, **asked}
                folder = Path(home) / f"{seed}-{way.replace(', ', '-')}"
                found[way].append(trained(STUDENT, settings, folder))
    scores = {way: [one["test_accuracy"] for one in rows] for way, rows in found.items()}
    print(f"{'student':26}{'accuracy':>10}{'difference to alone, 95 %':>30}   seconds")
    differences = {}
    for way, values in scores.items():
        line = f"{way:26}{statistics.mean(values):10.3f}"
        said = ""
        if way != "alone":
            differences[way] = told = difference(values, scores["alone"])
            said = f"{told['mean']:+.3f} ± {told['half']:.3f}"
        seconds = statistics.mean(one["seconds"] for one in found[way])
        verdict = differences[way]["says"] if way in differences else ""
        print(f"{line}{said:>30}{seconds:10.1f}   {verdict}")
    result = {
        "benchmark": "distilled_students",
        "settings": {k: v for k, v in vars(options).items() if k != "output"},
        "teacher": teacher,
        "students": found,
        "differences": differences,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
