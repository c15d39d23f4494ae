"""Architectures built and changed on the canvas, by mouse and by keyboard, in the real app."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
CANVAS = ".hl-canvas"
SHOTS = os.environ.get("HYBRIDLAB_CANVAS_SHOTS")
XSS = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg onload=window.pwned=1>',
    "javascript:window.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}",
    "'-window.pwned=1-'",
)


def shot(page: Page, shoot: Any, name: str) -> None:
    shoot(page, f"canvas_{name}", Path(SHOTS) / f"{name}.png" if SHOTS else None)


def open_design(page: Page, start: str) -> Locator:
    """Open the designer with a preset by its link, or with nothing, and wait for the canvas."""
    page.set_viewport_size({"width": 1280, "height": 720})
    if start == "empty":
        page.goto("/design")
        page.get_by_role("button", name="Start empty").click()
    else:
        page.goto(f"/design?preset={start}")
    canvas = page.locator(CANVAS)
    canvas.wait_for()
    return canvas


def settled(page: Page, costs: bool = True) -> int:
    """Wait until Python has every edit, and its costs are drawn; return the revision."""
    expect(page.locator(f'{CANVAS}[data-pending="0"]')).to_be_visible()
    if costs:
        expect(page.locator(f'{CANVAS}[data-costs="current"]')).to_be_visible()
    return int(page.locator(CANVAS).get_attribute("data-revision") or 0)


def node(page: Page, path: str) -> Locator:
    return page.locator(f'{CANVAS} [data-path="{path}"]')


def uses(page: Page) -> list[str]:
    """Return the components on the canvas by address, without those the task supplies."""
    boxes = page.locator(f"{CANVAS} .hl-box[data-use]:not(.hl-supplied)")
    found = boxes.evaluate_all("all => all.map(e => e.dataset.path + ' ' + e.dataset.use)")
    return sorted(str(item) for item in found)


def shows(page: Page, wanted: list[str]) -> None:
    """Wait until exactly these components are on the canvas: a key may be the page's, and its answer a redraw away."""
    deadline = time.monotonic() + 60
    while uses(page) != wanted and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert uses(page) == wanted


def drag(page: Page, source: Locator, to: tuple[float, float]) -> None:
    """Drag with the mouse in steps, as a hand does."""
    box = source.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + min(12, box["height"] / 2))
    page.mouse.down()
    page.mouse.move(to[0] - 30, to[1] - 10, steps=6)
    page.mouse.move(*to, steps=6)
    page.mouse.up()


def middle(locator: Locator) -> tuple[float, float]:
    box = locator.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def entry(page: Page, name: str) -> Locator:
    found = page.locator(f'{CANVAS} [data-entry="{name}"]')
    found.scroll_into_view_if_needed()
    return found


def yaml_text(page: Page) -> str:
    page.get_by_test_id("stButtonGroup").get_by_text("YAML", exact=True).click()
    field = page.get_by_label("Architecture (YAML)")
    field.wait_for()
    return field.input_value()


def wire(page: Page, source: str, target: str) -> None:
    """Drag a line from one node's output to another's input."""
    start = page.locator(f'{CANVAS} [data-path="{source}"] > .react-flow__handle.source').first
    drag(
        page,
        start,
        middle(page.locator(f'{CANVAS} [data-path="{target}"] > .react-flow__handle.target')),
    )


HYMBA = [
    "nodes[0].nodes[0] attention",
    "nodes[0].nodes[1] mamba2",
    "nodes[0].nodes[2] gated_sum",
    "nodes[0].nodes[3] swiglu",
]


def test_a_hymba_like_block_by_mouse(page: Page, shoot: Any) -> None:
    open_design(page, "empty")
    shot(page, shoot, "empty")
    page.get_by_role("button", name="Fill the window (W)").click()
    pane = page.locator(f"{CANVAS} .hl-flow").bounding_box()
    assert pane is not None
    drag(page, entry(page, "attention"), (pane["x"] + 300, pane["y"] + 250))
    settled(page)
    shows(page, ["nodes[0] attention"])
    entry(page, "mamba2").click()
    settled(page, costs=False)
    shows(page, ["nodes[0] attention", "nodes[1] mamba2"])
    wire(page, ":in", "nodes[1]")
    settled(page, costs=False)
    entry(page, "gated_sum").click()
    settled(page)
    out = node(page, ":out")
    line = (middle(node(page, "nodes[2]")), middle(out))
    y = (node(page, "nodes[2]").bounding_box() or {})["y"] + (
        node(page, "nodes[2]").bounding_box() or {}
    )["height"]
    top = (out.bounding_box() or {})["y"]
    drag(page, entry(page, "swiglu"), (line[0][0], (y + top) / 2 + 2))
    settled(page)
    shows(page, [item.removeprefix("nodes[0].") for item in HYMBA])
    page.keyboard.press("Control+a")
    page.get_by_role("button", name="Wrap in a group (G)").click()
    page.get_by_role("button", name="One repeat more (+)").click()
    settled(page)
    shows(page, HYMBA)
    assert not page.locator(f"{CANVAS} .hl-mark.hl-error").count()
    shot(page, shoot, "hymba_by_mouse")
    page.get_by_role("button", name="Back into the page (W)").click()
    text = yaml_text(page)
    assert "repeat: 2" in text
    assert re.search(r"gated_sum.*inputs: \[attention, mamba2\]", text)


@pytest.mark.parametrize("page", ["dark"], indirect=True)
def test_a_hymba_like_block_by_keyboard(page: Page, shoot: Any) -> None:
    open_design(page, "empty").focus()

    def take(words: str, keys: str) -> None:
        page.keyboard.press("a")
        page.keyboard.type(words)
        page.keyboard.press(keys)
        settled(page, costs=False)

    take("attention", "Enter")
    take("mamba-2", "Control+Enter")
    shows(page, ["nodes[0] attention", "nodes[1] mamba2", "nodes[2] sum"])
    page.keyboard.press("ArrowDown")
    take("gated sum", "Shift+Enter")
    take("swiglu", "Enter")
    page.keyboard.press("Control+a")
    page.keyboard.press("g")
    page.keyboard.press("+")
    settled(page)
    shows(page, HYMBA)
    assert page.evaluate("document.activeElement.closest('.hl-canvas') !== null")
    shot(page, shoot, "hymba_by_keyboard_dark")
    page.keyboard.press("Delete")
    settled(page, costs=False)
    shows(page, [])
    assert page.evaluate("document.activeElement.closest('.hl-canvas') !== null")
    page.keyboard.press("Control+z")
    settled(page)
    shows(page, HYMBA)
    for _ in range(6):
        page.keyboard.press("Control+z")
        settled(page, costs=False)
    shows(page, [])


def test_no_key_is_lost_with_the_focus(page: Page) -> None:
    """What had the focus may leave the page at any moment; the key that comes next is still the canvas's."""
    open_design(page, "empty").focus()
    for name in (
        "attention",
        "swiglu",
        "gated linear",
    ):  # with no pause: focus that was asked for comes too late
        page.keyboard.press("a")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
    settled(page, costs=False)
    shows(page, ["nodes[0] attention", "nodes[1] swiglu", "nodes[2] gated_linear_attention"])
    page.keyboard.press("Control+z")
    settled(page, costs=False)
    shows(page, ["nodes[0] attention", "nodes[1] swiglu"])
    for left in (["nodes[0] attention"], []):
        page.evaluate("document.activeElement.blur()")
        assert page.evaluate("document.activeElement === document.body")
        page.keyboard.press("Control+z")
        assert page.evaluate("document.activeElement.closest('.hl-canvas') !== null")
        settled(page, costs=False)
        shows(page, left)


def test_a_mixer_of_the_preset_is_replaced_and_comes_back(page: Page, shoot: Any) -> None:
    open_design(page, "jamba_mini")
    first = settled(page)
    before = node(page, "nodes[0].nodes[0]").locator(".hl-costs").inner_text()
    shot(page, shoot, "jamba")
    drag(page, entry(page, "gated_linear_attention"), middle(node(page, "nodes[0].nodes[0]")))
    settled(page)
    box = node(page, "nodes[0].nodes[0]")
    expect(box).to_have_attribute("data-use", "gated_linear_attention")
    assert box.locator(".hl-costs").inner_text() != before
    shot(page, shoot, "jamba_replaced")
    page.locator(CANVAS).focus()
    page.keyboard.press("Control+z")
    assert settled(page) > first
    expect(box).to_have_attribute("data-use", "mamba2")
    assert box.locator(".hl-costs").inner_text() == before
    page.keyboard.press("Control+y")
    settled(page)
    expect(box).to_have_attribute("data-use", "gated_linear_attention")
    page.keyboard.press("Control+z")
    settled(page)
    preset = Path(__file__).resolve().parents[2] / "sample_configs/architectures/jamba_mini.yaml"
    assert yaml_text(page).rstrip() == preset.read_text(encoding="utf-8").rstrip()


def test_an_illegal_line_is_explained(page: Page, shoot: Any) -> None:
    open_design(page, "hymba_mini")
    settled(page)
    page.keyboard.press("Escape")
    page.locator(CANVAS).focus()
    page.keyboard.press("w")
    page.get_by_role("button", name="Fit everything in view (0)").click()
    page.wait_for_timeout(500)
    wire(page, "nodes[0].nodes[1]", "nodes[0].nodes[0].nodes[0]")
    expect(page.locator(f"{CANVAS} .hl-callout")).to_contain_text("circle")
    shot(page, shoot, "illegal")


def test_what_others_wrote_stays_text(page: Page, shoot: Any) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    canvas = open_design(page, "empty")
    for text in XSS:
        canvas.focus()
        page.evaluate(
            """text => {
                const data = new DataTransfer();
                data.setData("text/plain", "- " + JSON.stringify({id: "x", use: text, note: text, [text]: text}));
                document.querySelector(".hl-canvas").dispatchEvent(
                    new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
            }""",
            text,
        )
        settled(page, costs=False)
        for place in (f"{CANVAS} .hl-find", f"{CANVAS} [role=combobox]"):
            page.locator(place).fill(text)
            page.keyboard.press("Enter")
        page.locator(f"{CANVAS} [role=combobox]").fill("")
    settled(page, costs=False)
    assert len(uses(page)) == len(XSS)
    shot(page, shoot, "xss")
    assert page.evaluate("window.pwned") is None
    host = page.url.split("/")[2]
    assert {url.split("/")[2] for url in requests if url.startswith("http")} == {host}
