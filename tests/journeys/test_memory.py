"""A preset's step is looked at in memory, planned for half of it, measured, and trained with the plan."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect
from test_canvas import open_design, settled
from test_strategies import pick

from hybridlab.runs.launcher import submit, wait
from hybridlab.runs.record import RunState
from hybridlab.runs.store import open_store

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]


def test_half_of_the_memory_is_planned_measured_and_trained(
    page: Page,
    shoot: Any,
    shoot_both: Any,
    app_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(app_server.home))
    # A preset of its own: canvases of other journeys would show its training.
    open_design(page, "samba_mini")
    settled(page)
    page.get_by_test_id("stTopNavLink").filter(has_text="Memory").click()
    expect(page.get_by_role("heading", name="Memory", exact=True)).to_be_visible()
    page.set_viewport_size({"width": 1440, "height": 1900})
    expect(page.get_by_role("combobox", name=re.compile("Architecture$"))).to_have_value(
        re.compile("samba-mini")
    )
    pick(page, "Task", "Digits, pixel by pixel")
    batch = page.get_by_label(re.compile("^Batch")).first
    batch.fill("8")
    batch.press("Enter")
    expect(page.get_by_text(re.compile("^Of the peak of"))).to_be_visible()
    expect(page.get_by_text("At this budget the step stays as it is")).to_be_visible()
    shoot(page, "memory_as_it_is_light")

    half = page.get_by_role("textbox", name="or type it")
    half.fill("50%")
    half.press("Enter")
    expect(page.get_by_text(re.compile(r"^\d+ % less memory for"))).to_be_visible()
    expect(page.get_by_text("the step as it is", exact=True)).to_be_visible()
    expect(page.get_by_text("computed again", exact=True).first).to_be_visible()
    shoot_both(page, "memory_half")
    page.get_by_role("radio", name="At the peak").click()
    expect(page.get_by_text(re.compile("^At the peak most of the memory"))).to_be_visible()
    page.get_by_role("radio", name="By component").click()

    page.get_by_text("Caches", exact=True).click()
    page.get_by_role("radio", name="256", exact=True).click()
    page.get_by_role("button", name="Predict and measure").click()
    expect(page.get_by_text(re.compile("of caches after 256 positions"))).to_be_visible()
    expect(page.get_by_text(re.compile("classifier .* reads whole sequences"))).to_be_visible()
    shoot_both(page, "memory_caches")

    page.get_by_role("button", name="Apply and measure").click()
    page.wait_for_url(re.compile(r"run="))
    off = page.get_by_text(re.compile(r"predicted is [+-][\d.]+ % off"))
    expect(off).to_be_visible(timeout=240_000)
    found = re.search(r"predicted is ([+-][\d.]+) % off", off.inner_text())
    assert found is not None and abs(float(found[1])) < 2
    expect(page.get_by_text("with a plan, measured")).to_be_visible()
    expect(page.get_by_text("the step as it is", exact=True)).to_be_visible()
    shoot_both(page, "memory_measured")

    page.get_by_role("button", name="Train with this plan").click()
    expect(page.get_by_text("Memory plan", exact=True)).to_be_visible()
    shoot(page, "memory_train_light")
    steps = page.get_by_label(re.compile("^Steps"))
    steps.fill("4")
    steps.press("Enter")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"train.*run="))
    learnt_the_same(parse_qs(urlsplit(page.url).query)["run"][0])


def learnt_the_same(run_id: str) -> None:
    """Train the same without the plan, beside it; hold losses and weights of both against each other, bit for bit."""
    store = open_store()
    spec = store.get(run_id).spec
    assert spec["training"]["plan"]["recompute"]
    plain = submit("train", "plain", {**spec, "training": {**spec["training"], "plan": None}})
    ended = [wait(one, timeout=240) for one in (run_id, plain.id)]
    assert [run.state for run in ended] == [RunState.DONE] * 2
    curves = [store.metrics(run.id, names=["loss"]).series("loss") for run in ended]
    assert curves[0] == curves[1] and len(curves[0][1]) > 1
    results = [run.result or {} for run in ended]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
