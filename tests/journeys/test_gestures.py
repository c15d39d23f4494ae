"""Gestures on the canvas, one after the other, in the real app: by mouse, by keyboard, by finger, in two tabs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from chromium import SEEN
from conftest import AppServer
from playwright.sync_api import Browser, Page, expect
from test_canvas import CANVAS, drag, entry, middle, node, open_design, settled, shot, uses

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
VIEWS = """
window.views = [];
const look = () => {
  const now = document.querySelector('.react-flow__viewport')?.style.transform;
  if (now && window.views.at(-1) !== now) window.views.push(now);
  requestAnimationFrame(look);
};
look();
"""
"""Notes what the canvas is seen from, frame by frame."""
JAMBA = ["mamba2", "swiglu", "attention", "moe"]


def names(page: Page) -> list[str]:
    """Return the components in reading order; ``<`` before those that are in a group."""
    found = (item.partition(" ") for item in uses(page))
    return [("<" if path.count("nodes") > 1 else "") + use for path, _, use in found if use]


def shows(page: Page, wanted: list[str]) -> None:
    """Wait until the canvas has these components and Python knows."""
    for _ in range(100):
        settled(page, costs=False)
        if names(page) == wanted:
            return
        page.wait_for_timeout(100)
    assert names(page) == wanted


def inside(*more: str) -> list[str]:
    return [f"<{use}" for use in (*JAMBA, *more)]


def selected(page: Page) -> list[str]:
    found = page.locator(f"{CANVAS} .hl-selected").evaluate_all("a => a.map(e => e.dataset.path)")
    return [str(path) for path in found]


def choose(page: Page, path: str) -> None:
    """Click a node once, near its upper edge, which is in view; it alone is selected then."""
    node(page, path).click(position={"x": 40, "y": 8})
    expect(node(page, path)).to_have_class(re.compile("hl-selected"))
    assert selected(page) == [path]


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
        settled(page, costs=False)


def label(page: Page, path: str) -> str:
    return node(page, path).get_attribute("aria-label") or ""


def select_group(page: Page) -> None:
    box = node(page, "nodes[0]").bounding_box() or {}
    page.mouse.click(box["x"] + 80, box["y"] + 10)
    assert selected(page) == ["nodes[0]"]


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    page.wait_for_timeout(400)


def test_nodes_are_copied_and_cut_from_tab_to_tab(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_design(page, "jamba_mini")
    settled(page, costs=False)
    node(page, "nodes[0].nodes[1]").click()
    node(page, "nodes[0].nodes[2]").click(modifiers=["Control"])
    assert (page.locator(f"{CANVAS} .hl-bar-row").bounding_box() or {})["height"] < 42, "one row"
    press(page, "Control+c")
    copied = "- {use: swiglu}\n- {use: attention, heads: 4, kv_heads: 2}\n"
    assert page.evaluate("navigator.clipboard.readText()") == copied
    other = page.context.new_page()
    other.add_init_script(VIEWS)
    open_design(other, "lstm_attention_mini")
    settled(other, costs=False)
    choose(other, "nodes[0]")
    assert len(other.evaluate("views")) == 1, "the graph moved after it was first seen"
    press(other, "Control+v")
    shows(other, ["lstm", "swiglu", "attention", "attention"])
    node(other, "nodes[0]").click()
    press(other, "Control+x")
    shows(other, ["swiglu", "attention", "attention"])
    page.bring_to_front()
    choose(page, "nodes[0].nodes[3]")
    press(page, "Control+v")
    shows(page, inside("lstm"))
    assert selected(page) == ["nodes[0].nodes[4]"], "what was pasted"
    press(page, "Control+z")
    shows(page, inside())
    other.bring_to_front()
    press(other, "Control+z", "Control+z")
    shows(other, ["lstm", "attention"])


def test_groups_are_tied_folded_kept_and_taken_apart_and_nodes_found(
    page: Page, app_server: AppServer, shoot: Any
) -> None:
    open_design(page, "jamba_mini")
    settled(page)
    node(page, "nodes[0].nodes[1]").click()
    press(page, "Control+d")
    shows(page, ["<mamba2", "<swiglu", "<swiglu", "<attention", "<moe"])
    press(page, "Control+z")
    select_group(page)
    press(page, "t")
    settled(page)
    assert "shared weights" in node(page, "nodes[0]").inner_text()
    press(page, "t", " ")
    settled(page)
    folded = node(page, "nodes[0]").inner_text()
    assert "4 nodes" in folded and "× 2" in folded and "ms" in folded
    shot(page, shoot, "folded")
    press(page, " ")
    shows(page, inside())
    button(page, "Fold stage")
    shows(page, [])
    button(page, "Unfold stage")
    select_group(page)
    page.get_by_text("Blocks to use again").click()
    page.get_by_role("button", name="Save this group as a block").click()
    expect(page.get_by_test_id("stToast").last).to_contain_text("Saved as the block")
    entry(page, "block:stage").click()
    shows(page, [*inside(), *inside()])
    button(page, "Fit everything in view (0)")
    shot(page, shoot, "block")
    drag(page, entry(page, "block:stage"), middle(node(page, "nodes[0].nodes[1]")))
    shows(page, ["<mamba2", *inside(), "<attention", "<moe", *inside()])
    press(page, "Control+z", "Control+z")
    shows(page, inside())
    (app_server.home / "blocks" / "stage.yaml").unlink()

    button(page, "Fit everything in view (0)")
    node(page, "nodes[0].nodes[1]").click()
    page.get_by_role("button", name="Fork and join").click()
    shot(page, shoot, "forks")
    page.get_by_role("menuitem", name="Expert choice").click()
    shows(page, ["<mamba2", "<swiglu", "<swiglu", "<routed_choice", "<attention", "<moe"])
    assert selected(page) == ["nodes[0].nodes[1].nodes[1]"], "the copy, to be replaced"
    settled(page)
    shot(page, shoot, "choice")
    press(page, "Control+z")
    shows(page, inside())
    select_group(page)
    press(page, "u")
    shows(page, JAMBA)
    press(page, "Control+z")
    shows(page, inside())

    press(page, "f")
    page.keyboard.type("attention")
    page.keyboard.press("Enter")
    assert selected(page) == ["nodes[0].nodes[2]"]
    page.keyboard.press("Escape")
    expect(node(page, "nodes[0].nodes[2]")).to_be_focused()
    press(page, "ArrowUp")
    assert selected(page) == ["nodes[0].nodes[1]"]

    # Connect by keyboard: the node and, with the arrow keys, who is to read it.
    press(page, "Home", "ArrowDown", "c", "ArrowDown", "Enter")
    assert selected(page) == ["nodes[0].nodes[3]"]
    expect(node(page, "nodes[0].nodes[3]")).to_have_attribute(
        "aria-label", re.compile("reads mamba2")
    )
    expect(page.locator(f"{CANVAS} .hl-callout")).to_contain_text("in place of what it read")
    button(page, "Add both with a Sum instead")
    settled(page, costs=False)
    shows(page, ["<mamba2", "<swiglu", "<attention", "<sum", "<moe"])

    button(page, "Fill the window (W)")
    sight = page.locator(f"{CANVAS} .react-flow__viewport")
    before = sight.get_attribute("style")
    x, y = middle(page.locator(f"{CANVAS} .react-flow__minimap"))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y + 25, steps=5)
    page.mouse.up()
    assert sight.get_attribute("style") != before


def test_a_band_selects_nodes_align_and_go_into_a_group(page: Page, shoot: Any) -> None:
    open_design(page, "jamba_mini")
    settled(page, costs=False)
    button(page, "Fill the window (W)")
    entry(page, "lstm").click()
    settled(page, costs=False)
    button(page, "Fit everything in view (0)")
    shows(page, [*inside(), "lstm"])

    def middles() -> list[tuple[int, int]]:
        found = [middle(node(page, f"nodes[0].nodes[{index}]")) for index in range(3)]
        return [(round(x), round(y)) for x, y in found]

    start = middles()
    height = (node(page, "nodes[0].nodes[1]").bounding_box() or {})["height"]
    drag(page, node(page, "nodes[0].nodes[1]"), (start[1][0] + 70, start[1][1]))
    assert middles()[1][0] > start[1][0] + 40, "dragged within its group, it stays in it"
    shows(page, [*inside(), "lstm"])
    group = node(page, "nodes[0]").bounding_box() or {}
    page.keyboard.down("Shift")
    page.mouse.move(group["x"] - 60, start[0][1] - height)
    page.mouse.down()
    page.mouse.move(start[2][0] + 150, start[2][1] + height / 2 + 3, steps=8)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert selected(page) == [f"nodes[0].nodes[{index}]" for index in range(3)]
    shot(page, shoot, "band")
    button(page, "Align under each other (V)")
    assert len({x for x, _ in middles()}) == 1
    button(page, "Align beside each other (H)")
    row = middles()
    assert len({y for _, y in row}) == 1
    assert [x for x, _ in row] == sorted(x for x, _ in row), (
        "from top to bottom is from left to right"
    )
    button(page, "Undo (Ctrl+Z)")
    assert len({x for x, _ in middles()}) == 1
    button(page, "Tidy: forget where nodes were put (L)")
    button(page, "Fit everything in view (0)")

    group = node(page, "nodes[0]").bounding_box() or {}
    within = (group["x"] + group["width"] / 2, group["y"] + group["height"] - 60)
    drag(page, node(page, "nodes[1]"), within)
    settled(page, costs=False)
    shows(page, inside("lstm"))
    assert selected(page) == ["nodes[0].nodes[4]"]
    shot(page, shoot, "into_the_group")
    drag(page, node(page, "nodes[0].nodes[4]"), (group["x"] + group["width"] + 260, within[1]))
    settled(page, costs=False)
    shows(page, [*inside(), "lstm"])
    press(page, "Control+z", "Control+z")
    shows(page, [*inside(), "lstm"])


def swipe(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Move one finger over the screen."""
    finger = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        listed = [{"x": x, "y": y} for x, y in points]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": listed})

    touch("touchStart", start)
    for part in range(1, 13):
        x, y = (a + (b - a) * part / 12 for a, b in zip(start, end, strict=True))
        touch("touchMove", (x, y))
        page.wait_for_timeout(16)
    touch("touchEnd")
    finger.detach()


def test_a_tablet_is_enough(chromium: Browser, app_server: AppServer, shoot: Any) -> None:
    size: Any = {"width": 768, "height": 1024}
    tablet = chromium.new_context(
        base_url=app_server.url, viewport=size, has_touch=True, is_mobile=True
    )
    tablet.set_default_timeout(90_000)
    tablet.add_init_script(SEEN)
    page = tablet.new_page()
    page.goto("/design")
    page.locator("[class*='st-key-preset'][class*='jamba_mini'] button").first.tap()
    page.locator(CANVAS).wait_for()
    settled(page, costs=False)
    page.get_by_role("button", name="Fill the window (W)").tap()
    page.wait_for_timeout(500)
    node(page, "nodes[0].nodes[1]").tap()
    expect(node(page, "nodes[0].nodes[1]")).to_have_class(re.compile("hl-selected"))
    entry(page, "lstm").tap()
    settled(page, costs=False)
    shows(page, ["<mamba2", "<swiglu", "<lstm", "<attention", "<moe"])
    swipe(page, middle(entry(page, "gru")), middle(node(page, "nodes[0].nodes[0]")))
    settled(page, costs=False)
    assert names(page)[0] == "<gru"
    at = middle(node(page, "nodes[0].nodes[1]"))
    swipe(page, at, (at[0] + 60, at[1] + 5))
    page.wait_for_timeout(300)
    assert middle(node(page, "nodes[0].nodes[1]"))[0] > at[0] + 20
    sight = page.locator(f"{CANVAS} .react-flow__viewport")
    before = sight.get_attribute("style")
    pane = page.locator(f"{CANVAS} .hl-flow").bounding_box() or {}
    swipe(page, (pane["x"] + 20, pane["y"] + 400), (pane["x"] + 80, pane["y"] + 300))
    assert sight.get_attribute("style") != before
    shot(page, shoot, "tablet")
    tablet.close()


def save(page: Page, name: str) -> None:
    page.get_by_role("button", name="Save", exact=True).first.click()
    field = page.get_by_label("Name of the design")
    field.fill(name)
    field.press("Enter")
    page.wait_for_timeout(1_000)
    page.get_by_role("button", name="Save", exact=True).last.click()


def test_two_tabs_on_one_design_lose_nothing(page: Page, app_server: AppServer, shoot: Any) -> None:
    file = app_server.home / "designs" / "in_two_tabs.yaml"
    open_design(page, "lstm_attention_mini")
    settled(page, costs=False)
    save(page, "in_two_tabs")
    expect(page.get_by_text("from design in_two_tabs")).to_be_visible()
    other = page.context.new_page()
    other.set_viewport_size({"width": 1280, "height": 720})
    other.goto("/design")
    other.locator("[class*='st-key-saved'][class*='in_two_tabs'] button").first.click()
    other.locator(CANVAS).wait_for()
    entry(page, "swiglu").click()
    settled(page, costs=False)
    save(page, "in_two_tabs")
    expect(page.get_by_text("not saved yet")).to_have_count(0)
    assert "swiglu" in file.read_text(encoding="utf-8")
    entry(other, "gru").click()
    settled(other, costs=False)
    save(other, "in_two_tabs")
    expect(other.get_by_text("saved elsewhere since you opened it")).to_be_visible()
    shot(other, shoot, "two_tabs")
    kept = file.read_text(encoding="utf-8")
    assert "swiglu" in kept and "gru" not in kept
    shows(other, ["lstm", "attention", "gru"])  # what the second tab did is still there
    other.get_by_role("button", name="Save a copy").click()
    expect(other.get_by_text("from design in_two_tabs_copy")).to_be_visible()
    copy = file.with_name("in_two_tabs_copy.yaml").read_text(encoding="utf-8")
    assert "gru" in copy and file.read_text(encoding="utf-8") == kept
