"""The cards of the gallery: figures that are said to be predicted or measured, and nobody waits for them."""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from hybridlab.architecture import library
from hybridlab.architecture.gallery import gallery
from hybridlab.ui import predictions, preset_costs, worker_pool
from hybridlab.ui.design.card import face
from hybridlab.ui.preset_costs import PresetCost
from hybridlab.units import format_bytes, format_count, format_seconds

LOG = Path(__file__).resolve().parents[3] / "docs" / "lab-log.md"
COST = PresetCost("parity", 64, 32, 52_000, 12.5, 3 * 2**20)


@pytest.fixture(autouse=True)
def fresh(monkeypatch) -> None:
    """Let each test begin as a server that knows no costs yet."""
    monkeypatch.setattr(preset_costs, "_keeper", preset_costs._Keeper())
    monkeypatch.setattr(preset_costs, "BEGIN_S", 0.0)


def cards(at) -> dict[str, str]:
    """Return the cards' HTML by the title on them."""
    found = [str(element.proto.body) for element in at.get("html")]
    return {body[3 : body.index("</b>")]: body for body in found if body.startswith("<b>")}


def test_every_preset_has_a_task_that_there_is_and_figures_that_the_lab_log_has() -> None:
    tasks = {entry["name"] for entry in predictions.tasks()}
    log = LOG.read_text(encoding="utf-8").replace(" 0.", " .")
    assert set(gallery()) == {entry.name for entry in library.presets()}
    for shown in gallery().values():
        assert shown.task in tasks
        for figure in shown.measured:
            assert figure.task in tasks
            written = [f"{figure.value:.{places}f}".removeprefix("0") for places in (1, 3, 4)]
            assert any(value in log for value in written), figure
            assert figure.took.split(" s")[0].split()[-1] in log
            assert f"## {figure.date}" in log


def test_a_card_says_what_is_predicted_and_what_was_measured_and_for_what() -> None:
    entry = next(entry for entry in library.presets() if entry.name == "hymba_mini")
    said = face(entry, COST, False)
    figures = f"{format_count(52_000)} parameters · {format_seconds(0.0125)} a step"
    assert f"predicted</em> {figures} · {format_bytes(3 * 2**20)} at the peak" in said
    assert "(parity, batch 64, length 32, one thread of this machine)" in said
    assert "measured</em> test accuracy 0.986 on digits_sequence" in said
    assert "(in 181 s; 500 steps" in said
    assert "being worked out" in face(entry, None, True)
    assert "predicted" not in face(entry, None, False)


def test_the_cards_come_at_once_and_their_costs_when_they_are_known(visitor, monkeypatch) -> None:
    may = threading.Event()
    real = preset_costs._predicted
    monkeypatch.setattr(preset_costs, "_predicted", lambda entry: may.wait(60) and real(entry))
    at = visitor.open("1_Design")
    shown = cards(at)
    assert len(shown) == len(library.presets())
    assert all("being worked out" in card for card in shown.values())
    may.set()
    at = visitor.until(lambda at: not any("being worked out" in c for c in cards(at).values()))
    shapes = predictions.Shapes(
        "python_bytes", batch=int(predictions.task("python_bytes")["default_training"]["batch"])
    )
    text = library.find("jamba_mini").read_text(encoding="utf-8")
    answer = predictions.predict(text, shapes, "", 60)
    assert answer is not None
    said = cards(at)["jamba-mini"]
    assert f"{format_count(answer.value['params'])} parameters" in said
    assert format_bytes(answer.value["peak_bytes"]) in said
    assert f"batch {shapes.batch}, length {answer.value['length']}" in said
    papers = [entry for entry in library.presets() if entry.source.startswith("https://")]
    assert len(at.get("link_button")) == len(papers)


def test_a_click_is_kept_where_the_costs_come_at_that_moment(visitor, monkeypatch) -> None:
    visitor.open("1_Design")
    calls = itertools.count()
    monkeypatch.setattr(preset_costs, "known", lambda entries: ({}, next(calls) == 0))
    visitor.press("Start empty")
    assert visitor.design is not None


def test_an_open_design_comes_before_the_cards(monkeypatch) -> None:
    """The first of many cards may be under way; the others wait until the design's costs are there, and then come."""
    pool = predictions.pool()
    entries = library.presets()
    order: list[str] = []
    real = worker_pool._Process.answer

    def answer(self, verb, args, *rest):
        if verb == "predict":
            order.append(args["text"])
        return real(self, verb, args, *rest)

    monkeypatch.setattr(worker_pool._Process, "answer", answer)
    monkeypatch.setattr(predictions, "pool", lambda: pool)
    pool.submit("devices", {}).result(60)
    assert preset_costs.known(entries)[1]
    time.sleep(0.1)  # the cards have asked
    text = "name: open\nwidth: 64\nnodes: [{use: swiglu, ratio: 3.07}]\n"
    answered = predictions.predict(text, predictions.Shapes("digits_sequence"), "me", 60)
    assert answered is not None
    assert text in order[:2]
    deadline = time.monotonic() + 90
    while len(preset_costs.known(entries)[0]) < 2:
        assert time.monotonic() < deadline, "the cards never came"
        time.sleep(0.05)


def test_costs_are_remembered_from_one_start_to_the_next(monkeypatch) -> None:
    entries = library.presets()
    monkeypatch.setattr(preset_costs, "_predicted", lambda entry: COST)
    assert preset_costs.known(entries) == ({}, True)
    deadline = time.monotonic() + 60
    while preset_costs.known(entries)[1]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert preset_costs.known(entries)[0] == {entry.name: COST for entry in entries}
    monkeypatch.setattr(preset_costs, "_keeper", preset_costs._Keeper())
    monkeypatch.setattr(preset_costs, "_predicted", lambda entry: pytest.fail("asked again"))
    assert preset_costs.known(entries) == ({entry.name: COST for entry in entries}, False)


@pytest.mark.parametrize("why", ["measured again", "measured with care", "long ago"])
def test_costs_are_worked_out_again_when_the_machine_has_another_speed(
    home, monkeypatch, why
) -> None:
    entries = library.presets()
    file = preset_costs._file(tuple(entry.text() for entry in entries))
    preset_costs._write(file, {entry.name: COST for entry in entries})
    known = preset_costs._read(file)
    assert set(known) == {entry.name for entry in entries}
    later = time.time() + 60
    if why == "long ago":
        os.utime(file, (later - 50_000, later - 50_000))
    else:
        speed = (home / "cache" if why == "measured again" else home) / "ceilings.json"
        speed.write_text("{}", encoding="utf-8")
        os.utime(speed, (later, later))
    assert preset_costs._read(file) == {}


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}', '{"x": {"y": 1}}'])
def test_a_file_that_was_damaged_is_worked_out_again(home, monkeypatch, content) -> None:
    entries = library.presets()
    monkeypatch.setattr(preset_costs, "_predicted", lambda entry: None)
    file = preset_costs._file(tuple(entry.text() for entry in entries))
    file.parent.mkdir(parents=True)
    file.write_text(content, encoding="utf-8")
    assert preset_costs.known(entries) == ({}, True)
    deadline = time.monotonic() + 60
    while preset_costs.known(entries)[1]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
