"""Nothing is lost: closed pages are gone on with, versions come back, differences are seen, links and pictures open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from chromium import SEEN
from playwright.sync_api import Browser, Locator, Page, expect

from hybridlab.architecture import carried, library

pytestmark = pytest.mark.browser
CANVAS = ".hl-canvas"
PRESET = library.find("jamba_mini").read_text(encoding="utf-8")


def open_preset(page: Page) -> None:
    page.goto("/design?preset=jamba_mini")
    settled(page)


def settled(page: Page) -> None:
    """Wait until Python has every edit."""
    page.locator(CANVAS).wait_for()
    expect(page.locator(f'{CANVAS}[data-pending="0"]')).to_be_visible()


def node(page: Page, path: str) -> Locator:
    return page.locator(f'{CANVAS} [data-path="{path}"]')


def replace_mixer(page: Page) -> None:
    """Put gated linear attention in Mamba-2's place, on the canvas."""
    target = node(page, "nodes[0].nodes[0]")
    entry = page.locator(f'{CANVAS} [data-entry="gated_linear_attention"]')
    entry.scroll_into_view_if_needed()
    start, end = entry.bounding_box(), target.bounding_box()
    assert start is not None and end is not None
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + 10)
    page.mouse.down()
    x, y = end["x"] + end["width"] / 2, end["y"] + end["height"] / 2
    page.mouse.move(x - 30, y - 10, steps=6)
    page.mouse.move(x, y, steps=6)
    page.mouse.up()
    expect(target).to_have_attribute("data-use", "gated_linear_attention")
    settled(page)


def text_of(page: Page) -> str:
    page.get_by_role("radio", name="YAML").click()
    field = page.get_by_label("Architecture (YAML)")
    field.wait_for()
    return field.input_value()


def view(page: Page, name: str) -> None:
    page.get_by_role("radio", name=name).click()


def menu(page: Page, name: str) -> None:
    page.get_by_test_id("stPopoverButton").filter(has_text=name).click()


def another(chromium: Browser, page: Page) -> Page:
    """Return a page of somebody else's browser on the same server."""
    context = chromium.new_context(
        base_url=re.sub(r"(//[^/]+).*", r"\1", page.url),
        viewport={"width": 1440, "height": 900},
        accept_downloads=True,
    )
    context.add_init_script(SEEN)
    return context.new_page()


def test_an_edited_design_is_gone_on_with_after_its_page_was_closed(
    page: Page, chromium: Browser, shoot: Any
) -> None:
    open_preset(page)
    replace_mixer(page)
    text = text_of(page)
    assert "gated_linear_attention" in text
    page.goto("about:blank")
    page.goto("/")
    offer = page.get_by_role("button", name="Go on with jamba-mini")
    expect(offer.first).to_be_visible()
    shoot(page, "keeping_home")
    page.goto("/design")
    expect(page.get_by_role("heading", name="Design a hybrid")).to_be_visible()
    shoot(page, "keeping_start")
    offer.first.click()
    settled(page)
    expect(node(page, "nodes[0].nodes[0]")).to_have_attribute("data-use", "gated_linear_attention")
    assert text_of(page) == text


def test_a_version_is_named_restored_and_the_restoring_undone(page: Page, shoot_both: Any) -> None:
    open_preset(page)
    replace_mixer(page)
    marked = page.locator(f"{CANVAS} .hl-changed")
    expect(marked).to_have_count(1)
    expect(node(page, "nodes[0].nodes[0]").locator(".hl-changed")).to_be_visible()
    menu(page, "Versions")
    name = page.get_by_label("Name of this version")
    name.fill("with linear attention")
    page.get_by_role("button", name="Keep under this name").click()
    expect(
        page.get_by_test_id("stPopoverBody").get_by_text("with linear attention")
    ).to_be_visible()
    shoot_both(page, "keeping_versions")
    page.keyboard.press("Escape")
    page.locator(CANVAS).focus()
    page.keyboard.press("Control+z")
    expect(node(page, "nodes[0].nodes[0]")).to_have_attribute("data-use", "mamba2")
    settled(page)
    menu(page, "Versions")
    page.get_by_test_id("stPopoverBody").get_by_text("with linear attention").click()
    restore = page.get_by_role("button", name="Restore")
    expect(restore).to_be_enabled()
    restore.click()
    expect(node(page, "nodes[0].nodes[0]")).to_have_attribute("data-use", "gated_linear_attention")
    settled(page)
    undo = page.locator(
        "[class*='st-key-design-undo'] button, [class*='st-key-design.undo'] button"
    )
    undo.first.click()
    expect(node(page, "nodes[0].nodes[0]")).to_have_attribute("data-use", "mamba2")
    settled(page)
    expect(marked).to_have_count(0)
    assert text_of(page) == PRESET


def test_the_design_is_compared_with_its_preset(
    page: Page, shoot_both: Any, tmp_path: Path
) -> None:
    open_preset(page)
    replace_mixer(page)
    view(page, "Compare")
    said = page.get_by_test_id("stCode").filter(
        has_text="component mamba2 → gated_linear_attention"
    )
    expect(said).to_be_visible()
    changed = page.locator('.board [data-mark="changed"]')
    expect(changed).to_have_count(1)
    expect(changed).to_have_attribute("data-path", "nodes[0].nodes[0]")
    row = page.get_by_role("row").filter(has_text="Parameters")
    expect(row).to_contain_text("%")
    shoot_both(page, "keeping_compare")
    with page.expect_download() as download:
        page.get_by_role("button", name="Text difference").click()
    file = tmp_path / "changes.diff"
    download.value.save_as(file)
    told = file.read_text(encoding="utf-8")
    assert "-      - {use: mamba2, state: 16}" in told
    assert "+      - {use: gated_linear_attention" in told
    page.get_by_role("combobox", name="Compare the design with").fill("hymba")
    page.get_by_role("option", name="preset: hymba_mini").click()
    expect(page.locator('.board [data-mark="removed"]').first).to_be_visible()
    expect(page.locator('.board [data-mark="added"]').first).to_be_visible()
    shoot_both(page, "keeping_compare_other")


def test_a_link_opens_the_same_text_for_somebody_else(
    page: Page, chromium: Browser, shoot: Any
) -> None:
    open_preset(page)
    replace_mixer(page)
    text = text_of(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    menu(page, "Share")
    page.get_by_role("button", name="Copy link", exact=True).click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    shoot(page, "keeping_share")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(page.url.partition("?")[0] + "?design=")
    other = another(chromium, page)
    other.goto(link)
    settled(other)
    expect(other.get_by_text("from a link")).to_be_visible()
    assert "design=" not in other.url
    assert text_of(other) == text
    other.goto(link[:-9])
    expect(other.get_by_text(re.compile("this link was cut or changed"))).to_be_visible()
    shoot(other, "keeping_cut_link")
    other.context.close()


@pytest.mark.parametrize("kind", ["SVG", "PNG"])
def test_a_picture_brings_the_design_back(
    page: Page, chromium: Browser, shoot: Any, tmp_path: Path, kind: str
) -> None:
    open_preset(page)
    replace_mixer(page)
    text = text_of(page)
    menu(page, "Share")
    with page.expect_download() as download:
        page.get_by_test_id("stPopoverBody").get_by_role("button", name=kind, exact=True).click()
    assert download.value.suggested_filename == f"jamba-mini.{kind.lower()}"
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert carried.from_picture(file.read_bytes()) == text
    shown = chromium.new_page(viewport={"width": 900, "height": 900})
    shown.goto(file.as_uri())
    shoot(shown, f"keeping_file_{kind}")
    shown.close()
    other = another(chromium, page)
    other.goto("/design")
    other.locator("input[type=file]").set_input_files(file)
    settled(other)
    assert text_of(other) == text
    other.context.close()
