"""What a newcomer does: open a preset, change it, train it on real data, watch it learn, find the run again."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import TOP
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
STEPS = 40


def metric(page: Page, label: str) -> str:
    """Return the figure under a label."""
    box = page.get_by_test_id("stMetric").filter(has_text=label)
    return box.get_by_test_id("stMetricValue").inner_text()


def settled(page: Page) -> None:
    """Wait until the server has nothing more to draw."""
    page.wait_for_timeout(300)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


def test_design_train_and_see(page: Page, shoot, shoot_both, tmp_path: Path) -> None:
    outside: list[str] = []
    broken: list[str] = []

    def note(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in (
            "localhost",
            "127.0.0.1",
        ):
            outside.append(url)

    page.on("request", lambda sent: note(sent.url))
    page.on("websocket", lambda socket: note(socket.url))
    page.on("pageerror", lambda error: broken.append(str(error)))

    # A preset.
    page.goto("/design")
    expect(page.get_by_role("heading", name="Design a hybrid")).to_be_visible()
    shoot_both(page, "journey-1-start")
    page.locator("[class*='st-key-preset'][class*='lstm_attention_mini'] button").first.click()
    expect(page.get_by_test_id("stMetric").filter(has_text="Parameters")).to_contain_text(
        re.compile(r"\d")
    )
    before = metric(page, "Parameters")
    shoot_both(page, "journey-2-preset")

    # An edit: one more component from the list beside the diagram, which the text and the canvas show too.
    page.get_by_role("radio", name="Diagram").click()
    page.get_by_text("Channel mixers", exact=True).click()
    page.get_by_role("button", name="SwiGLU").first.click()
    expect(page.get_by_test_id("stMetric").filter(has_text="Parameters")).not_to_contain_text(
        before
    )
    page.get_by_role("radio", name="YAML").click()
    expect(page.locator("textarea").first).to_have_value(re.compile(r"use: swiglu"))
    page.get_by_role("radio", name="Diagram").click()
    expect(page.get_by_role("button", name="SwiGLU", exact=False).first).to_be_visible()
    page.get_by_role("radio", name="Canvas").click()
    settled(page)
    target = (
        TOP / "docs/screenshots/design.png" if os.environ.get("HYBRIDLAB_SCREENSHOTS") else None
    )
    shoot_both(page, "journey-3-edited")
    if target is not None:
        shoot(page, "design", target)

    # Training on real data, live.
    page.get_by_role("button", name="Train this").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    expect(page.get_by_text("Name a handwritten digit").first).to_be_visible()
    steps = page.get_by_label(re.compile("^Steps"))
    steps.fill(str(STEPS))
    steps.press("Enter")
    settled(page)
    page.get_by_label(re.compile("^Eval every")).fill("20")
    page.get_by_label(re.compile("^Eval every")).press("Enter")
    settled(page)
    expect(page.get_by_test_id("stMetric").filter(has_text="Time, predicted")).to_contain_text(
        re.compile(r"\d")
    )
    shoot_both(page, "journey-4-before")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"run="))
    run_id = parse_qs(urlsplit(page.url).query)["run"][0]
    expect(page.get_by_text(re.compile(rf"Step [\d,]+ of {STEPS}\b"))).to_be_visible(
        timeout=120_000
    )
    shoot_both(page, "journey-5-live")

    # The page is closed and opened again; the result stands there in the end, beside its baselines.
    page.goto("/runs")
    page.goto(f"/train?run={run_id}")
    expect(page.get_by_text("Test accuracy").first).to_be_visible(timeout=240_000)
    expect(page.get_by_text(re.compile("majority class", re.IGNORECASE)).first).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()
    settled(page)
    shoot_both(page, "journey-6-result")

    # The table of runs.
    page.get_by_role("link", name="Runs").click()
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    expect(page.get_by_text(re.compile(r"\d+ runs?\."))).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Table (CSV)").click()
    table = tmp_path / "runs.csv"
    download.value.save_as(table)
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    mine = next(row for row in rows if run_id in row.values())
    assert any("done" in value.lower() for value in mine.values())
    assert any(str(STEPS) in value for value in mine.values())
    shoot_both(page, "journey-7-runs")
    assert outside == []
    assert broken == []
