"""The verb that plans, as scripts call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridlab.planning.record import Plan
from hybridlab.runs.store import open_store
from tests.cli.conftest import Said

pytestmark = pytest.mark.usefixtures("only_new_garbage")
Cli = Callable[..., Said]


def test_a_preset_is_planned_and_measured(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "out" / "plan.json"
    said = cli(
        "plan", "transformer_mini", "--task", "mqar", "--batch", "8", "--budget", "85%",
        "--apply", "--output", str(file), "--json",
    )  # fmt: skip
    assert said.code == 0
    found = said.json
    assert {"points", "chosen", "measured", "plain"} <= set(found)
    assert {tuple(sorted(point)) for point in found["points"]} == {
        ("peak_bytes", "plan", "source", "step_ms")
    }
    curve = [point for point in found["points"] if point["source"] == "predicted"]
    assert [p["peak_bytes"] for p in curve] == sorted({p["peak_bytes"] for p in curve})
    assert [p["step_ms"] for p in curve] == sorted({p["step_ms"] for p in curve}, reverse=True)
    assert curve[-1]["plan"] == []
    chosen, measured = found["chosen"], found["measured"]
    assert chosen["peak_bytes"] <= 0.85 * found["plain_predicted"]["peak_bytes"]
    assert measured["peak_bytes"] == pytest.approx(chosen["peak_bytes"], rel=0.02)
    assert found["plain"]["peak_bytes"] > measured["peak_bytes"] and measured["step_ms"] > 0
    plan = Plan.load(file)
    assert plan.measured is not None and plan.measured.peak_bytes == measured["peak_bytes"]
    assert plan.task == "mqar" and str(plan.budget) == "85%"
    assert f"--set plan=@{file}" in said.err
    trained = cli(
        "train", "transformer_mini", "--task", "mqar", "--batch", "8", "--steps", "1",
        "--set", f"plan=@{file}", "--json",
    )  # fmt: skip
    assert trained.code == 0
    spec = open_store().get(trained.json["run"]).spec["training"]
    assert Plan.read(spec["plan"]) == plan
    other = ("--task", "mqar", "--set", f"plan=@{file}", "--json")
    assert [one["path"] for one in cli("train", "griffin_mini", *other).json["errors"]] == ["plan"]
    gone = cli("train", "griffin_mini", "--task", "mqar", "--set", "plan=@/no/such.json", "--json")
    assert [one["path"] for one in gone.json["errors"]] == ["/no/such.json"]


def test_a_training_of_a_file_is_planned_as_it_runs(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "training.yaml"
    file.write_text(
        "task: mqar\nbatch: 8\nprecision: bfloat16\ndevice: cpu\n"
        "stages: [{name: a, until: 5, freeze: block.0}, {name: b}]\n"
    )
    more = ("--training", str(file), "--set", "accumulation=2", "--budget", "90%")
    said = cli("plan", "transformer_mini", *more, "--apply", "--json")
    assert said.code == 0
    chosen, measured = said.json["chosen"], said.json["measured"]
    assert measured["peak_bytes"] == pytest.approx(chosen["peak_bytes"], rel=0.02)
    assert "a stage that freezes parts takes less" in said.json["plan"]["note"]
    plain = cli(
        "plan", "transformer_mini", "--task", "mqar", "--batch", "8", "--budget", "100%", "--json"
    )
    assert said.json["plain_predicted"]["peak_bytes"] < plain.json["plain_predicted"]["peak_bytes"]
    assert cli("plan", "transformer_mini", "--budget", "90%").code == 2


def test_a_table_says_what_json_says(cli: Cli) -> None:
    said = cli(
        "plan", "mamba2_mini", "--task", "mqar", "--batch", "4", "--budget", "100%",
        "--offload", "same",
    )  # fmt: skip
    assert said.code == 0
    assert "plans that no other beats" in said.out and "with the plan" in said.out


def test_what_fits_a_card_is_found(cli: Cli) -> None:
    said = cli(
        "plan", "transformer_mini", "--task", "mqar", "--batch", "2", "--fit", "T4", "--json"
    )
    assert said.code == 0
    found = said.json
    assert found["limit_bytes"] == 16 * 10**9 and found["axis"] == "batch"
    assert found["plain"]["size"] < found["planned"]["size"]
    assert all(found[name]["peak_bytes"] <= 16 * 10**9 for name in ("plain", "planned"))
    said = cli("plan", "transformer_mini", "--task", "mqar", "--batch", "2", "--fit", "1KiB")
    assert said.code == 0 and "least for batch 1" in said.out


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ([], "budget"),
        (["--budget", "50%", "--fit", "T4"], "budget"),
        (["--fit", "T4", "--apply"], "fit"),
        (["--fit", "T4", "--offload", "same"], "fit"),
        (["--fit", "a toaster"], "fit"),
    ],
)
def test_a_budget_or_a_memory_is_asked_for(cli: Cli, options: list[str], path: str) -> None:
    said = cli("plan", "transformer_mini", "--task", "mqar", *options, "--json")
    assert said.code == 2 and said.json["errors"][0]["path"] == path


def test_a_budget_that_no_plan_meets_says_the_least_and_what_holds_it(cli: Cli) -> None:
    said = cli(
        "plan", "mamba2_mini", "--task", "mqar", "--batch", "4", "--budget", "1KiB", "--json"
    )
    assert said.code == 2
    (error,) = said.json["errors"]
    assert error["path"] == "budget" and "at least" in error["expected"]
    assert "held by" in error["fix"]


@pytest.mark.parametrize("budget", ["much", "-1%", "0 B"])
def test_what_is_no_budget_is_refused(cli: Cli, budget: str) -> None:
    said = cli("plan", "mamba2_mini", "--task", "mqar", f"--budget={budget}", "--json")
    assert said.code == 2 and said.json["errors"][0]["path"] == "budget"
