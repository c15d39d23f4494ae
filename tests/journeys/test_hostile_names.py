"""Hostile names of saved designs and of versions, given on the page and seen wherever they are shown: all stay text."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from test_canvas import CANVAS, open_design, settled
from test_canvas_text import quoted
from xss import STRINGS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def menu(page: Page, name: str) -> None:
    page.get_by_test_id("stPopoverButton").filter(has_text=name).click()


def test_hostile_names_of_designs_and_versions_stay_text(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
    open_design(page, "lstm_mini")
    name = page.get_by_label("Name", exact=True)
    for place, text in enumerate(STRINGS[::8]):
        # The design's own name is what the lists of saved designs show; the file's name is made from what is typed.
        name.fill(text)
        name.press("Enter")
        expect(page.locator(f"{CANVAS}[aria-label*={quoted(text)}]")).to_be_visible()
        settled(page, costs=False)
        menu(page, "Save")
        field = page.get_by_label("Name of the design")
        field.fill(f"{place} {text}"[:80])
        field.press("Tab")
        page.get_by_test_id("stPopoverBody").get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_test_id("stToast").last).to_be_visible()
        expect(page.get_by_test_id("stPopoverBody")).to_have_count(0)
        menu(page, "Versions")
        given = page.get_by_label("Name of this version")
        given.fill(text)
        given.press("Tab")
        page.get_by_role("button", name="Keep under this name").click()
        listed = page.get_by_test_id("stPopoverBody").get_by_test_id("stRadio").last
        shown = listed.locator("strong").filter(visible=True)
        expect(shown).to_have_count(place + 1)
        assert shown.first.inner_text().replace("\u2060", "") == " ".join(text.split())[:80]
        page.keyboard.press("Escape")
    for view in ("Compare", "YAML", "Canvas"):
        page.get_by_test_id("stButtonGroup").get_by_text(view, exact=True).click()
        page.wait_for_timeout(400)
    page.get_by_test_id("stBaseButton-secondary").filter(has_text=re.compile("Open$")).first.click()
    expect(page.get_by_role("heading", name="Design a hybrid")).to_be_visible()
    page.get_by_role("button", name="Delete").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("will be removed")
    page.keyboard.press("Escape")
    for label in ("Home", "Train", "Runs", "Design"):
        page.get_by_test_id("stTopNavLink").filter(has_text=label).click()
        page.wait_for_timeout(600)
    assert page.evaluate("window.pwned") is None
    assert {urlsplit(url).hostname for url in asked if url.startswith(("http", "ws"))} == {
        "localhost"
    }
    assert not [url for url in asked if url.startswith("dialog")]
    assert page.locator(f"{CANVAS}, h1").count()
