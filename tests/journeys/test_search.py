"""A search in the browser: started from the sample file, watched, its knee chosen and opened on the canvas."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_a_search_is_started_watched_and_its_knee_opened(page: Page, shoot_both: Any) -> None:
    page.goto("/search")
    trials = page.get_by_label("Trials", exact=True)
    trials.fill("48")
    trials.press("Enter")
    start = page.get_by_role("button", name="Start search")
    expect(start).to_be_enabled()
    expect(page.get_by_text("Time, predicted")).to_be_visible()
    shoot_both(page, "search_setup")
    start.click()
    # The page shows what is there while the search goes on, and then that it is done.
    expect(page.get_by_text(re.compile(r"^\d+ of 48 trials · \d+ on the front"))).to_be_visible()
    expect(page.get_by_text(re.compile("^48 of 48 trials · "))).to_be_visible()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    expect(page.locator(".js-plotly-plot .scatterlayer .point").first).to_be_visible()
    page.get_by_role("button", name=re.compile("^.*Knee: trial")).click()
    expect(page.get_by_role("button", name="Open on the canvas")).to_be_visible()
    shoot_both(page, "search_front")
    page.get_by_role("radio", name="Progress").click()
    expect(page.get_by_text("hypervolume (% of")).to_be_visible()
    shoot_both(page, "search_progress")
    page.get_by_role("radio", name="Choices").click()
    expect(page.locator(".parcoords")).to_be_visible()
    shoot_both(page, "search_choices")
    page.get_by_role("radio", name="Front").click()
    page.get_by_role("button", name="Open on the canvas").click()
    expect(page.locator(".hl-canvas [data-use]").first).to_be_visible()
    assert "/design" in page.url


def test_nodes_are_marked_on_the_canvas(page: Page, shoot_both: Any) -> None:
    page.goto("/design?preset=jamba_mini")
    canvas = page.locator(".hl-canvas")
    canvas.wait_for()
    expect(page.locator('.hl-canvas[data-costs="current"]')).to_be_visible()
    mamba = canvas.locator('[data-use="mamba2"]').first
    switch = mamba.get_by_role("switch", include_hidden=True)
    expect(switch).to_be_hidden()
    mamba.hover()
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    expect(switch).to_have_attribute("title", re.compile("search: .*State"))  # Python's own words
    canvas.locator('[data-use="attention"]').first.click()
    page.keyboard.press("m")
    expect(canvas.locator('[aria-checked="true"]')).to_have_count(2)
    panel = page.locator(".st-key-node-search")
    panel.locator("summary").click()
    expect(panel.get_by_text("can be built")).to_be_visible()
    expect(panel.get_by_role("textbox", name="Kv heads: values")).to_be_visible()
    shoot_both(page, "search_marks")
    mamba.click()
    page.keyboard.press("m")
    expect(canvas.locator('[aria-checked="true"]')).to_have_count(1)
    panel.get_by_role("button", name="Set up the search").click()
    expect(page.get_by_role("button", name="Start search")).to_be_enabled()
    expect(page.get_by_text("Time, predicted")).to_be_visible()
