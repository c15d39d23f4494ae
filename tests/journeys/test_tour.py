"""The tour of the Design page: once by itself, around the real things, by keyboard, and again when asked for."""

from __future__ import annotations

import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from test_canvas import CANVAS, entry, open_design, settled, uses

pytestmark = [pytest.mark.browser, pytest.mark.newcomer]
STEPS = ("palette", "canvas", "inspector", "problems", "costs", "train")
THINGS = {
    "palette": ".hl-palette",
    "canvas": ".hl-flow",
    "inspector": ".st-key-design-inspector",
    "problems": ".stMarkdownBadge",
    "costs": ".st-key-design-totals",
    "train": ".st-key-design-train",
}
CARD = ".hl-tour"


def around(page: Page, thing: str) -> None:
    """Wait until the ring lies around a thing, and the card wholly in the window."""
    page.wait_for_function(
        """([thing, pad]) => {
            const ring = document.querySelector(".hl-tour-ring")?.getBoundingClientRect();
            const there = document.querySelector(thing)?.getBoundingClientRect();
            const card = document.querySelector(".hl-tour")?.getBoundingClientRect();
            return ring && there && card
                && Math.abs(ring.left + pad - there.left) < 2 && Math.abs(ring.top + pad - there.top) < 2
                && Math.abs(ring.width - 2 * pad - there.width) < 2
                && card.left >= 0 && card.top >= 0 && card.right <= innerWidth && card.bottom <= innerHeight;
        }""",
        arg=[thing, 4],
        timeout=15_000,
    )


def test_a_newcomer_is_shown_around_once_by_keyboard(page: Page, shoot_both: Any) -> None:
    open_design(page, "jamba_mini")
    card = page.locator(CARD)
    card.wait_for()
    settled(page)
    began = time.monotonic()
    for step in STEPS:
        expect(card).to_have_attribute("data-step", step)
        around(page, THINGS[step])
        shoot_both(page, f"tour_{step}")
        if step == "inspector":
            page.keyboard.press("ArrowLeft")
            expect(card).to_have_attribute("data-step", "canvas")
            page.keyboard.press("ArrowRight")
            expect(card).to_have_attribute("data-step", "inspector")
        page.keyboard.press("Enter")
    expect(card).to_have_count(0)
    assert time.monotonic() - began < 60
    assert page.evaluate("document.activeElement.classList.contains('hl-canvas')")
    page.reload()
    page.wait_for_timeout(500)
    open_design(page, "jamba_mini")
    settled(page)
    page.wait_for_timeout(1_500)
    expect(card).to_have_count(0)
    # And again from the list of keys; Escape leaves at any step.
    page.locator(CANVAS).focus()
    page.keyboard.press("?")
    page.get_by_role("button", name="Show me around this page").click()
    expect(card).to_have_attribute("data-step", "palette")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)


def test_the_page_can_be_used_while_the_tour_is_shown(page: Page, shoot: Any) -> None:
    page.emulate_media(reduced_motion="reduce")
    open_design(page, "empty")
    card = page.locator(CARD)
    card.wait_for()
    assert card.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"
    shoot(page, "tour_empty")
    entry(page, "attention").click()
    settled(page)
    assert "nodes[0] attention" in uses(page)
    card.get_by_role("button", name="Skip (Esc)").click()
    expect(card).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(page.locator(".hl-empty-canvas")).to_be_visible()
    shoot(page, "tour_empty_canvas")
    page.get_by_role("button", name="Show me around", exact=True).click()
    expect(card).to_have_attribute("data-step", "palette")
