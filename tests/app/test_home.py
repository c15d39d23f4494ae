"""Home: what it says to a newcomer, and the demonstration's runs in its address."""

from __future__ import annotations

import re

import pytest

from hybridlab.runs.record import RunState
from hybridlab.ui.home import demo
from hybridlab.ui.live import pump
from tests.app.held import in_session


def test_a_newcomer_sees_one_button_presets_and_no_runs(open_page, said) -> None:
    page = open_page()
    primary = [button for button in page.button if button.proto.type == "primary"]
    assert [button.label for button in primary] == ["See why hybrids"]
    assert "None yet" in said(page)
    assert any(button.key == "preset.hymba_mini" for button in page.button)


def test_a_preset_opens_in_the_designer(open_page, said) -> None:
    page = open_page()
    page.button(key="preset.lstm_attention_mini").click().run()
    assert not page.exception
    assert in_session(page, "design").preset == "lstm_attention_mini"
    assert "from preset lstm\\_attention\\_mini" in said(page)


def test_recent_runs_are_listed_and_their_names_are_text(open_page, make_run, said) -> None:
    make_run("<b>bold</b> *run*")
    page = open_page()
    labels = [button.label for button in page.button]
    assert r"\<b\>bold\</b\> \*run\*" in labels


@pytest.mark.parametrize("text", ["", "a,b", "a,b,c,d,e,f,g"])
def test_an_address_without_six_runs_is_no_demonstration(text) -> None:
    assert demo.ids_from(text) is None


def test_the_address_reads_back() -> None:
    ids = demo.ids_from("a,b,c,d,e,f")
    assert ids is not None
    assert demo.written(ids) == "a,b,c,d,e,f"


def test_runs_that_are_gone_are_told(open_page, said) -> None:
    page = open_page(demo=",".join(f"1qgw8hhn6e5{letter}" for letter in "abcdef"))
    assert "no such run" in said(page)


def demonstration(make_run, last: RunState = RunState.DONE) -> dict[str, dict[str, str]]:
    ids: dict[str, dict[str, str]] = {}
    for planned in demo.demo.plan():
        accuracy = 0.999 if planned.model == "hybrid" else 0.12
        metric = demo.demo.TASKS[planned.task]
        run = make_run(
            planned.name,
            state=last if planned.task == "mqar" else RunState.DONE,
            points={metric.replace("test", "val"): [(25, 0.1), (50, accuracy)]},
            result={"metrics": {metric: accuracy}, "steps": 50, "seconds": 4.0},
            task=planned.task,
        )
        ids.setdefault(planned.task, {})[planned.model] = run.id
    return ids


def test_verdicts_speak_of_the_budget_and_never_of_ability(open_page, make_run, said) -> None:
    page = open_page(demo=demo.written(demonstration(make_run)))
    text = said(page)
    assert text.count("solved in 4 s") == 2
    assert text.count("budget of 50 steps reached") == 4
    assert not re.search(r"\bcannot\b|\bcan't\b|unable", text)
    button = next(b for b in page.button if b.label == "Open the hybrid and change it")
    button.click().run()
    assert in_session(page, "design").preset == "lstm_attention_mini"


def test_runs_under_way_are_shown_with_their_curves(open_page, make_run, said, monkeypatch) -> None:
    sent = []
    monkeypatch.setattr(pump, "feed", lambda channel, message, lost: sent.append(message))
    ids = demonstration(make_run, last=RunState.RUNNING)
    page = open_page(demo=demo.written(ids))
    assert "step 50 of 100" in said(page)
    assert sent[-1]["full"]
    parts = sent[-1]["parts"]
    assert parts[ids["mqar"]["hybrid"]]["points"]["val_accuracy"][1:] == ([25, 50], [0.1, 0.999])
    assert set(parts) == {run for of in ids.values() for run in of.values()}
    assert not any(b.label == "Open the hybrid and change it" for b in page.button)
