"""The Runs page: the table, what can be done with one run, comparing several, deleting after a question."""

from __future__ import annotations

import pytest

from hybridlab.errors import RunError
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import RunState
from tests.app.held import put_in_session

SCORE = {"test_accuracy": 0.75}


def select(visitor, *names: str):
    """Tick rows of the table by the names of their runs, as clicks in a browser would."""
    table = visitor.at.dataframe[0].value
    ids = [table["run"][table["name"] == name].item() for name in names]
    put_in_session(visitor.at, "selected_runs", ids)
    visitor.at.run()
    return visitor._whole()


def table_of(visitor):
    return visitor.at.dataframe[0].value.set_index("name")


def test_without_runs_the_page_says_what_a_run_is_and_where_to_go(visitor) -> None:
    at = visitor.open("3_Runs")
    assert [title.value for title in at.title] == ["Runs"]
    assert "**No runs yet**" in visitor.words()
    assert not at.dataframe
    at = visitor.press("Set up a training")
    assert [title.value for title in at.title] == ["Train"]


def test_the_table_says_how_each_run_stands(visitor, runs) -> None:
    runs.queued("waits")
    runs.running("runs", step=3, steps=12, task="mqar")
    runs.ended("done", metrics=SCORE)
    runs.ended("failed", RunState.FAILED, error="RunError: out of memory\nmore")
    visitor.open("3_Runs")
    table = table_of(visitor)
    assert table["state"].to_dict() == {
        "failed": "✗ failed",
        "done": "✓ done",
        "runs": "▶ running",
        "waits": "◷ queued",
    }
    assert list(table.index) == ["failed", "done", "runs", "waits"], "newest first"
    assert table["progress (%)"].to_dict() == {"failed": 50, "done": 100, "runs": 25, "waits": 0}
    assert table["value"]["done"] == 0.75
    assert table["metric"]["done"] == "test accuracy"
    assert table["task"].to_dict()["runs"] == "mqar"
    assert table["time (s)"]["done"] == 2.5
    assert "4 runs. Tick one to open it" in visitor.words()


def test_runs_are_found_by_name_id_and_state(visitor, runs) -> None:
    runs.queued("alpha 50% one")
    wanted = runs.ended("beta two", metrics=SCORE)
    at = visitor.open("3_Runs")
    visitor.give(at.text_input(key="runs.find"), "50%")
    assert list(table_of(visitor).index) == ["alpha 50% one"]
    visitor.give(at.text_input(key="runs.find"), wanted.id)
    assert list(table_of(visitor).index) == ["beta two"]
    at = visitor.give(at.text_input(key="runs.find"), "gamma")
    assert [i.value for i in at.info] == ["No run matches. Change the words or the states."]
    visitor.give(at.text_input(key="runs.find"), "")
    visitor.give(at.button_group(key="runs.states"), [RunState.QUEUED])
    assert list(table_of(visitor).index) == ["alpha 50% one"]


def test_a_failed_run_says_why_and_can_be_resumed(visitor, runs) -> None:
    run = runs.ended("broken", RunState.FAILED, error="a batch of 512 needs 3 GiB\ntraceback")
    (run_folder(run.id) / "log.txt").write_text("step 1\n<script>alert(1)</script>\n")
    visitor.open("3_Runs")
    at = select(visitor, "broken")
    assert [e.value for e in at.error] == ["a batch of 512 needs 3 GiB"]
    assert [c.value for c in at.code] == ["step 1\n<script>alert(1)</script>"], "as code"
    visitor.press("run.resume")
    assert runs.store.get(run.id).state is RunState.QUEUED
    assert table_of(visitor)["state"]["broken"] == "◷ queued"


def test_a_running_run_is_asked_to_stop_and_cannot_be_deleted(visitor, runs) -> None:
    run = runs.running("busy")
    visitor.open("3_Runs")
    select(visitor, "busy")
    assert visitor.button("run.delete").disabled
    visitor.press("run.cancel")
    assert runs.store.get(run.id).cancel_requested
    assert runs.store.get(run.id).state is RunState.RUNNING, "until its worker has stopped"


def test_open_leads_to_the_run(visitor, runs) -> None:
    run = runs.ended("mine", metrics=SCORE)
    visitor.open("3_Runs")
    select(visitor, "mine")
    at = visitor.press("run.open")
    assert [s.value for s in at.subheader] == ["mine"]
    assert f"Run {run.id}, 1 thread" in visitor.words()


def test_a_run_is_deleted_only_after_a_question(visitor, runs) -> None:
    run, other = runs.ended("gone", metrics=SCORE), runs.ended("stays", metrics=SCORE)
    visitor.open("3_Runs")
    select(visitor, "gone")
    visitor.press("run.delete")
    assert f"gone ({run.id})" in visitor.words()
    assert "Curves, checkpoints and weights will be removed" in visitor.words()
    assert runs.store.get(run.id) == run, "not before the answer"
    visitor.answer("run.delete", "delete.no")
    assert runs.store.get(run.id) == run
    assert run_folder(run.id).is_dir()
    visitor.press("run.delete")
    visitor.answer("run.delete", "delete.yes")
    with pytest.raises(RunError, match="no such run"):
        runs.store.get(run.id)
    assert not run_folder(run.id).exists()
    assert run_folder(other.id).is_dir()
    assert list(table_of(visitor).index) == ["stays"]


def test_two_runs_share_a_chart_and_a_table_of_what_differs(visitor, runs) -> None:
    runs.ended("first", metrics=SCORE, seed=1, step=4)
    runs.ended("second", metrics={"test_accuracy": 0.5}, seed=2, step=6)
    visitor.open("3_Runs")
    at = select(visitor, "first", "second")
    (chart,) = at.get("plotly_chart")
    assert '"name":"first"' in chart.proto.spec.replace('": "', '":"')
    assert '"name":"second"' in chart.proto.spec.replace('": "', '":"')
    assert "loss (nats)" in chart.proto.spec
    differences = at.dataframe[1].value.set_index("name")
    assert differences["test accuracy"].to_dict() == {"first": 0.75, "second": 0.5}
    assert differences["seed"].to_dict() == {"first": "1", "second": "2"}
    assert "task" not in differences.columns, "both ran the same task"
    at = visitor.give(at.button_group(key="compare.axis"), "seconds")
    (chart,) = at.get("plotly_chart")
    assert "running time (s)" in chart.proto.spec


def test_runs_are_compared_from_an_address_and_at_most_eight(visitor, runs) -> None:
    made = [runs.ended(f"run {i}", metrics=SCORE) for i in range(9)]
    at = visitor.open("3_Runs", compare=",".join(run.id for run in made))
    (chart,) = at.get("plotly_chart")
    assert chart.proto.spec.count("scatter") >= 8
    assert "compare" not in at.query_params
    at = select(visitor, *(run.name for run in made))
    assert not at.get("plotly_chart")
    assert [i.value for i in at.info] == ["9 runs are selected; a chart shows at most 8."]


def test_runs_without_points_have_nothing_to_compare(visitor, runs) -> None:
    runs.queued("one")
    runs.queued("two")
    visitor.open("3_Runs")
    at = select(visitor, "one", "two")
    assert [i.value for i in at.info] == ["These runs have no points yet."]


def test_html_in_the_name_of_a_run_is_shown_as_text(visitor, runs) -> None:
    runs.ended("<img src=x onerror=alert(1)>", metrics=SCORE)
    visitor.open("3_Runs")
    select(visitor, "<img src=x onerror=alert(1)>")
    assert r"**\<img src=x onerror=alert\(1\)\>**" in visitor.words()
    visitor.press("run.delete")
    assert "\n<img" not in visitor.words()
