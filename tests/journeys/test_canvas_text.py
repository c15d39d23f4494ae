"""A hundred hostile strings in the text fields of the designer: they stay text, and nothing goes to another server."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

sys.path.insert(0, str(Path(__file__).parent))
from test_canvas import CANVAS, open_design, settled
from xss import STRINGS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_a_hundred_hostile_strings_stay_text(page: Page) -> None:
    assert len(set(STRINGS)) == 100
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
    canvas = open_design(page, "lstm_mini")
    # The design's name stands in the toolbar, in the canvas's label and in the title of what is saved.
    name = page.get_by_label("Name", exact=True)
    for text in STRINGS[::10]:
        name.fill(text)
        name.press("Enter")
        expect(page.locator(f"{CANVAS}[aria-label*={quoted(text)}]")).to_be_visible()
    # The canvas's own fields, while few nodes are drawn anew with each; a search that finds nothing repeats what was
    # typed. Names that are there are found below.
    find = page.locator(f"{CANVAS} .hl-find")
    for text in STRINGS:
        find.fill(text)
        page.keyboard.press("Enter")
        page.locator(f"{CANVAS} [role=combobox]").fill(text)
        page.keyboard.press("Enter")
    page.locator(f"{CANVAS} [role=combobox]").fill("")
    settled(page, costs=False)
    # Names, components, parameters and keys of pasted nodes, many at once, as another person's file would bring them;
    # not so many that only those in view are in the page.
    boxes = page.locator(f"{CANVAS} .hl-box[data-use]:not(.hl-supplied)")
    own = boxes.count()
    for some in (STRINGS[:50], STRINGS[50:]):
        canvas.focus()
        if boxes.count() > own:
            page.keyboard.press("Control+z")
        expect(boxes).to_have_count(own)
        page.evaluate(
            """all => {
                const data = new DataTransfer();
                const node = text => "- " + JSON.stringify({id: text, use: text, note: text, [text]: text});
                data.setData("text/plain", all.map(node).join("\\n"));
                document.querySelector(".hl-canvas").dispatchEvent(
                    new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
            }""",
            list(some),
        )
        expect(boxes).to_have_count(own + 50)
        settled(page, costs=False)
    for text in STRINGS[50::10]:
        find.fill(text)
        page.keyboard.press("Enter")
    # A node's own fields, and every other view of the same design.
    page.locator(CANVAS).focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    settled(page, costs=False)
    for view in ("Diagram", "YAML", "Costs", "Canvas"):
        page.get_by_test_id("stButtonGroup").get_by_text(view, exact=True).click()
        page.wait_for_timeout(400)
    for label in ("Train", "Runs", "Home", "Design"):
        page.get_by_test_id("stTopNavLink").filter(has_text=label).click()
        page.wait_for_timeout(400)
    assert page.evaluate("window.pwned") is None
    assert {urlsplit(url).hostname for url in asked if url.startswith(("http", "ws"))} == {
        "localhost"
    }
    assert not [url for url in asked if url.startswith("dialog")]


def quoted(text: str) -> str:
    """Return a text as a CSS string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
