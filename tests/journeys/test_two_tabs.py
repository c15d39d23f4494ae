"""Two tabs on one design are merged; a link to look only shows it to others; cards say what presets cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from chromium import SEEN
from playwright.sync_api import Browser, Page, expect
from test_canvas import CANVAS, settled

from hybridlab.architecture import library

pytestmark = pytest.mark.browser
TEXT = library.find("jamba_mini").read_text(encoding="utf-8")


def menu(page: Page, name: str) -> None:
    page.get_by_test_id("stPopoverButton").filter(has_text=name).click()


def write(page: Page, text: str) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text("YAML", exact=True).click()
    field = page.get_by_label("Architecture (YAML)")
    field.fill(text)
    field.press("Control+Enter")
    page.get_by_role("button", name="Apply").click()


def open_saved(page: Page) -> None:
    page.goto("/design")
    page.locator("[class*='st-key-saved'][class*='shared_by_two'] button").first.click()
    settled(page)


def save(page: Page) -> None:
    menu(page, "Save")
    page.get_by_test_id("stPopoverBody").get_by_role("button", name="Save", exact=True).click()


def test_the_second_tab_is_told_and_merges(page: Page, app_server: Any, shoot_both: Any) -> None:
    designs = app_server.home / "designs"
    designs.mkdir(parents=True, exist_ok=True)
    file = Path(designs / "shared_by_two.yaml")
    file.write_text(TEXT.replace("jamba-mini", "shared by two"), encoding="utf-8")
    before = file.read_text(encoding="utf-8")
    other = page.context.new_page()
    for tab in (page, other):
        tab.bring_to_front()
        open_saved(tab)
    write(other, before.replace("heads: 4", "heads: 8").replace("state: 16", "state: 32"))
    save(other)
    expect(other.get_by_test_id("stToast").last).to_contain_text("Saved as")
    page.bring_to_front()
    write(page, before.replace("heads: 4", "heads: 2").replace("width: 64", "width: 128"))
    save(page)
    expect(page.get_by_text("was saved elsewhere since you opened it").first).to_be_visible()
    shoot_both(page, "merge_told")
    page.get_by_role("button", name="Merge with it").click()
    expect(page.get_by_role("heading", name="Merge two versions")).to_be_visible()
    expect(page.get_by_text("you set heads to 2, the other to 8; it was 4.")).to_be_visible()
    take = page.get_by_role("button", name="Take the merged design")
    expect(take).to_be_disabled()
    shoot_both(page, "merge")
    page.get_by_text("The other's: heads 8").click()
    expect(take).to_be_enabled()
    expect(page.get_by_test_id("stCode").first).to_contain_text("heads 2 → 8")
    shoot_both(page, "merge_chosen")
    take.click()
    field = page.get_by_label("Architecture (YAML)")
    merged = before.replace("heads: 4", "heads: 8").replace("state: 16", "state: 32")
    expect(field).to_have_value(merged.replace("width: 64", "width: 128"))
    save(page)
    expect(page.get_by_test_id("stToast").last).to_contain_text("Saved as")
    assert file.read_text(encoding="utf-8") == merged.replace("width: 64", "width: 128")


def test_a_link_to_look_only_shows_the_version_and_changes_nothing(
    page: Page, chromium: Browser, shoot_both: Any
) -> None:
    page.goto("/design?preset=jamba_mini")
    settled(page)
    new = TEXT.replace("heads: 4", "heads: 8")
    write(page, new)
    expect(page.locator(".stMarkdownBadge", has_text="valid")).to_be_visible()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    menu(page, "Share")
    page.get_by_role("button", name="Copy link to look only").click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    shoot_both(page, "look_share")
    link = page.evaluate("navigator.clipboard.readText()")
    context = chromium.new_context(
        base_url=re.sub(r"(//[^/]+).*", r"\1", page.url),
        viewport={"width": 1440, "height": 900},
    )
    context.set_default_timeout(90_000)
    context.add_init_script(SEEN)
    guest = context.new_page()
    guest.goto(link)
    expect(guest.locator(".stMarkdownBadge", has_text="read only")).to_be_visible()
    expect(guest.locator(".board [data-path]").first).to_be_visible()
    shoot_both(guest, "look")
    guest.get_by_test_id("stButtonGroup").get_by_text("Changes", exact=True).click()
    expect(guest.get_by_test_id("stCode").filter(has_text="heads 4 → 8").first).to_be_visible()
    shoot_both(guest, "look_changes")
    guest.get_by_role("button", name="Make a copy").click()
    settled(guest)
    assert "look=" not in guest.url
    guest.goto(link[:-5])
    expect(guest.get_by_text(re.compile("this link was cut or changed"))).to_be_visible()
    guest.goto(link[:-5] + "00000")
    expect(guest.get_by_text(re.compile("not on this server"))).to_be_visible()
    shoot_both(guest, "look_unknown")
    context.close()


def test_the_gallery_shows_figures_when_they_are_known(page: Page, shoot_both: Any) -> None:
    page.goto("/design")
    expect(page.get_by_role("heading", name="Design a hybrid")).to_be_visible()
    expect(page.get_by_text("being worked out").first).to_have_count(0)
    expect(page.get_by_text("test accuracy 0.986 on digits_sequence")).to_be_visible()
    expect(page.get_by_text(re.compile("at the peak")).first).to_be_visible()
    shoot_both(page, "gallery")
    assert not page.locator(CANVAS).count()
