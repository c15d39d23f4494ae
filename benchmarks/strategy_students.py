"""A small student with a teacher against itself alone, for the same steps, batches and first weights.

The teacher is trained first, once, and its weights are kept beside the results.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strategy_statistics import Told, difference, interval, verdict
from strategy_trainings import Budget, Found, Job, fingerprint, key, preset, trained, values

TEACHER, TEACHER_STEPS, TEACHER_SEED = "lfm2_mini", 600, 100
STUDENT = """name: small-student
width: 16
nodes:
  - {use: short_conv, kernel: 3, bias: none}
  - {use: swiglu, ratio: 2}
  - {use: attention, heads: 2, qk_norm: true}
  - {use: swiglu, ratio: 2}
"""
STEPS, BATCH = 600, 32
LOGITS = {"hard": 0.5, "logits": {"weight": 0.5, "temperature": 2.0}}
WAYS: dict[str, dict[str, Any] | None] = {
    "alone": None,
    "answers": LOGITS,
    "answers, hidden states": {**LOGITS, "hidden": {"weight": 0.1}},
}


def jobs(budget: Budget, found: Found) -> list[Job]:
    """Return the teacher's training and, once it is there, those of the students."""
    teacher = _teacher(budget)
    there = found.get(key(teacher))
    if there is None or not (Path(there["folder"]) / "weights.safetensors").is_file():
        return [teacher]
    return [teacher, *_students(budget, there["run"])]


def gone(job: Job, result: dict[str, Any]) -> bool:
    """Say whether a result is of no use any more: a teacher whose weights were deleted."""
    return (
        job["arm"] == "teacher" and not (Path(result["folder"]) / "weights.safetensors").is_file()
    )


def run(job: Job) -> dict[str, Any]:
    """Train the teacher or a student."""
    from hybridlab.runs.home import run_folder
    from hybridlab.runs.record import new_id
    from hybridlab.workflows.distill import outcome

    settings = {
        "task": "digits_sequence",
        "steps": job["steps"],
        "batch": job["batch"],
        "warmup_steps": job["steps"] // 10,
        "seed": job["seed"],
    }
    if job["arm"] == "teacher":
        name = new_id()
        folder = run_folder(name)
        metrics = trained(preset(job["of"]), settings, folder).metrics
        return {"test_accuracy": metrics["test_accuracy"], "run": name, "folder": str(folder)}
    if job["teacher"] is not None:
        settings["teacher"] = {"run": job["run"], **job["teacher"]}
    done = trained(STUDENT, settings)
    found: dict[str, Any] = {"test_accuracy": done.metrics["test_accuracy"]}
    if done.spec.teacher is not None:
        said = outcome(done.model, done.task, done.spec, done.metrics)
        found |= {"kept": said["kept"], "saved": said["saved"]}
    return found


def told(budget: Budget, found: Found) -> Told:
    """Compare each way of being taught with the student alone."""
    teacher = found[key(_teacher(budget))]
    every = _students(budget, teacher["run"])
    scores = {
        way: values(found, [job for job in every if job["arm"] == way], "test_accuracy")
        for way in WAYS
    }
    says = Told(("student", "accuracy", "difference to alone, 95 %", "kept of the teacher", ""))
    for way, accuracy in scores.items():
        mean = interval(accuracy)
        kept = f"{mean.mean / teacher['test_accuracy']:.1%}" if teacher["test_accuracy"] else ""
        gain = difference(accuracy, scores["alone"])
        shown = ("", "") if way == "alone" else (gain.words(), verdict(gain, "better", "worse"))
        says.rows.append((way, mean.words(sign=False), shown[0], kept, shown[1]))
    saved = next(found[key(job)]["saved"] for job in every if "saved" in found[key(job)])
    shares = ", ".join(f"{share:.0%} of {name}" for name, share in saved.items())
    says.notes.append(
        f"Teacher {TEACHER}, one seed: test accuracy {teacher['test_accuracy']:.3f}. "
        f"The student saves (predicted) {shares}."
    )
    return says


def _teacher(budget: Budget) -> Job:
    return {
        "section": "students",
        "of": TEACHER,
        "arm": "teacher",
        "fingerprint": fingerprint(preset(TEACHER)),
        "steps": budget.steps(TEACHER_STEPS),
        "batch": BATCH,
        "seed": TEACHER_SEED,
    }


def _students(budget: Budget, run_id: str) -> list[Job]:
    about = {
        "section": "students",
        "of": "student",
        "steps": budget.steps(STEPS),
        "batch": BATCH,
        "fingerprint": fingerprint(STUDENT),
        "run": run_id,
    }
    return [
        {**about, "arm": way, "teacher": asked, "seed": seed}
        for seed in budget.seeds
        for way, asked in WAYS.items()
    ]
