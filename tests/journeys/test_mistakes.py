"""Typical mistakes, made as a user makes them: explained, with a fix or a way back, and the design is right again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import AppServer, told_of_failure
from playwright.sync_api import BrowserContext, Locator, Page, expect
from test_canvas import (
    CANVAS,
    drag,
    entry,
    middle,
    node,
    open_design,
    settled,
    wire,
    yaml_text,
)

pytestmark = pytest.mark.browser
SHOTS = os.environ.get("HYBRIDLAB_CANVAS_SHOTS")
TOP = "name: mine\nwidth: 64\nnodes:\n"
GOOD = TOP + "  - {id: first, use: attention, heads: 4}\n  - {use: swiglu}\n"


def shot(page: Page, shoot: Any, name: str) -> None:
    shoot(page, f"mistake_{name}", Path(SHOTS) / f"mistake_{name}.png" if SHOTS else None)


def view(page: Page, name: str) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()


def right(page: Page) -> Locator:
    """Return the badge that says that the design is right."""
    return page.locator(".stMarkdownBadge", has_text="valid")


def write(page: Page, text: str) -> None:
    """Write a text into the YAML view and apply it."""
    view(page, "YAML")
    field = page.get_by_label("Architecture (YAML)")
    field.fill(text)
    field.press("Control+Enter")
    page.get_by_role("button", name="Apply").click()


@pytest.fixture(scope="module")
def opened(visitor: BrowserContext) -> Iterator[list[Page]]:
    """The page on which one mistake after the other is made; none at first and after a failure."""
    pages: list[Page] = []
    yield pages
    for page in pages:
        page.close()


@pytest.fixture(params=["light"])
def desk(
    request: pytest.FixtureRequest,
    visitor: BrowserContext,
    app_server: AppServer,
    opened: list[Page],
) -> Iterator[Page]:
    """One page for many mistakes, with the same small design before each."""
    if not opened:
        opened.append(visitor.new_page())
    page = opened[0]
    scheme: Any = request.param
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    failures = request.session.testsfailed
    start(page)
    yield page
    if request.session.testsfailed > failures:
        told_of_failure(request, page, app_server)
        opened.pop().close()


def start(page: Page) -> Locator:
    """Open a small design that is right, on the canvas."""
    canvas = page.locator(CANVAS)
    if page.url == "about:blank":
        canvas = open_design(page, "empty")
    if yaml_text(page) != GOOD:
        write(page, GOOD)
    expect(right(page)).to_be_visible()
    view(page, "Canvas")
    canvas.wait_for()
    settled(page)
    return canvas


def paste(page: Page, yaml: str) -> None:
    page.locator(CANVAS).focus()
    page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.setData("text/plain", text);
            document.querySelector(".hl-canvas").dispatchEvent(
                new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
        }""",
        yaml,
    )


def in_the_inspector(page: Page) -> None:
    node(page, "nodes[0]").click()
    heads = page.get_by_label("Heads", exact=True)
    heads.fill("5")
    heads.press("Enter")


def replace_by_a_join(page: Page) -> None:
    drag(page, entry(page, "sum"), middle(node(page, "nodes[1]")))


def an_input_at_the_end(page: Page) -> None:
    node(page, "nodes[1]").click()
    entry(page, "patch_embedding").click()


def a_head_in_the_middle(page: Page) -> None:
    page.locator(CANVAS).focus()
    page.keyboard.press("Home")
    page.keyboard.press("a")
    page.keyboard.type("classifier")
    page.keyboard.press("Enter")


def pasted(yaml: str) -> Callable[[Page], None]:
    return lambda page: paste(page, yaml)


def written(nodes: str) -> Callable[[Page], None]:
    return lambda page: write(page, TOP + nodes)


@dataclass(frozen=True)
class Mistake:
    """How it is made, what the screen says, and the button that puts it right."""

    make: Callable[[Page], None]
    says: str
    fix: str
    on_canvas: bool = True


MISTAKES = {
    "heads": Mistake(in_the_inspector, "5 does not divide width 64", "Set heads to 4"),
    "component": Mistake(pasted("- {use: atention}"), "unknown component", "Take attention"),
    "key": Mistake(pasted("- {use: attention, haeds: 8}"), "unknown key", "Write haeds as heads"),
    "input_name": Mistake(
        pasted("- {use: mlp, inputs: [swigul]}"),
        "there is no such node here",
        "Read swiglu instead of swigul",
    ),
    "join_of_one": Mistake(
        replace_by_a_join, "wrong number of inputs", "Remove sum, which has nothing to join"
    ),
    "kinds": Mistake(an_input_at_the_end, "patch_embedding cannot read", "Remove patch_embedding"),
    "head": Mistake(a_head_in_the_middle, "cannot read 'classifier'", "Move classifier to the end"),
    "range": Mistake(
        pasted("- {use: attention, heads: 5000}"), "is out of range", "Use the default heads"
    ),
    "empty_group": Mistake(
        pasted("- {id: later, nodes: []}"), "a non-empty 'nodes'", "Remove the empty group"
    ),
    "same_id": Mistake(
        written("  - {id: a, use: attention}\n  - {id: a, use: swiglu}\n"),
        "the id 'a' is taken",
        "Call it a_2",
        on_canvas=False,
    ),
    "circle": Mistake(
        written("  - {id: a, use: attention, inputs: [b]}\n  - {id: b, use: swiglu}\n"),
        "read each other in a circle",
        "Let a no longer read b",
        on_canvas=False,
    ),
    "repeat_0": Mistake(
        written("  - {id: stage, repeat: 0, nodes: [{use: attention}]}\n"),
        "is out of range",
        "Set repeat to 1",
        on_canvas=False,
    ),
}


@pytest.mark.parametrize(
    ("desk", "name"),
    [(("light", "dark")[place % 2], name) for place, name in enumerate(MISTAKES)],
    indirect=["desk"],
)
def test_a_mistake_is_explained_and_its_fix_puts_it_right(
    desk: Page, name: str, shoot: Any
) -> None:
    mistake = MISTAKES[name]
    mistake.make(desk)
    if mistake.on_canvas:
        row = desk.locator(f'{CANVAS} .hl-problem-row[data-severity="error"]').filter(
            has_text=mistake.says
        )
        expect(row.first).to_be_visible()
        shot(desk, shoot, name)
        row.first.get_by_role("button", name=mistake.fix).click()
    else:
        expect(desk.get_by_test_id("stAlert").filter(has_text=mistake.says).first).to_be_visible()
        shot(desk, shoot, name)
        desk.get_by_role("button", name=mistake.fix).first.click()
    expect(right(desk)).to_be_visible()
    expect(desk.locator('.hl-problem-row[data-severity="error"]')).to_have_count(0)
    if not mistake.on_canvas:
        view(desk, "Canvas")
        desk.locator(CANVAS).wait_for()
    settled(desk)
    assert not desk.locator(f"{CANVAS} .hl-mark.hl-error").count()
    shot(desk, shoot, f"{name}_fixed")


def test_a_fix_is_one_step_of_undo(desk: Page) -> None:
    paste(desk, "- {use: attention, haeds: 8}")
    row = desk.locator(f"{CANVAS} .hl-problem-row").filter(has_text="unknown key")
    row.get_by_role("button", name="Write haeds as heads").click()
    expect(right(desk)).to_be_visible()
    desk.keyboard.press("Control+z")
    expect(row).to_be_visible()
    desk.keyboard.press("Control+z")
    expect(row).to_have_count(0)
    expect(right(desk)).to_be_visible()


def test_a_problem_leads_to_its_node_even_inside_a_folded_group(desk: Page) -> None:
    paste(desk, "- {id: far, nodes: [{use: swiglu}, {id: bad, use: swiglu, colour: red}]}")
    settled(desk, costs=False)
    desk.locator(CANVAS).focus()
    desk.get_by_role("button", name="Fold far").click()
    expect(node(desk, "nodes[2].nodes[1]")).to_have_count(0)
    desk.locator(f"{CANVAS} .hl-problem").filter(has_text="unknown key").click()
    expect(node(desk, "nodes[2].nodes[1]")).to_be_in_viewport()
    expect(node(desk, "nodes[2].nodes[1]")).to_have_attribute("aria-pressed", "true")
    expect(desk.get_by_role("button", name="Remove unknown key colour")).to_be_visible()


def test_text_that_is_no_yaml_says_where_and_can_be_taken_back(desk: Page, shoot: Any) -> None:
    write(desk, GOOD.replace("heads: 4}", "heads: 4"))
    said = desk.get_by_test_id("stAlert").filter(has_text="this is not YAML")
    expect(said).to_contain_text("line")
    shot(desk, shoot, "no_yaml")
    desk.get_by_role("button", name="Revert").click()
    expect(said).to_have_count(0)
    expect(desk.get_by_label("Architecture (YAML)")).to_have_value(GOOD)


def test_words_pasted_on_the_canvas_change_nothing_and_say_why(desk: Page, shoot: Any) -> None:
    before = settled(desk)
    paste(desk, "dear diary")
    expect(desk.locator(f"{CANVAS} .hl-callout")).to_contain_text("is not a list of nodes")
    shot(desk, shoot, "pasted_words")
    assert settled(desk) == before


def test_a_line_that_cannot_be_is_explained_and_a_button_does_what_was_meant(
    page: Page, shoot_both: Any
) -> None:
    start(page)
    paste(page, "- {id: later, use: mlp}")
    settled(page)
    page.locator(CANVAS).focus()
    page.keyboard.press("w")
    page.get_by_role("button", name="Fit everything in view (0)").click()
    page.wait_for_timeout(400)
    callout = page.locator(f"{CANVAS} .hl-callout")
    wire(page, "nodes[2]", "nodes[0]")
    expect(callout).to_contain_text("circle")
    page.keyboard.press("Escape")
    node(page, "nodes[0]").click()
    page.keyboard.press("g")
    settled(page)
    page.get_by_role("button", name="Fit everything in view (0)").click()
    page.wait_for_timeout(400)
    wire(page, "nodes[0].nodes[0]", "nodes[2]")
    expect(callout).to_contain_text("inside another group")
    shoot_both(page, "canvas_line")
    callout.get_by_role("button", name="and add both with a Sum").click()
    settled(page)
    assert not page.locator(f"{CANVAS} .hl-mark").count()
    shoot_both(page, "canvas_line_joined")


def test_hints_and_an_overdrawn_budget_are_told_and_block_nothing(
    page: Page, shoot_both: Any
) -> None:
    start(page)
    paste(page, "- {use: rms_norm}\n- {use: layer_norm}")
    hint = page.locator(f'{CANVAS} .hl-problem-row[data-severity="hint"]')
    expect(hint).to_contain_text("normalises what a norm has just normalised")
    expect(right(page)).to_be_visible()
    memory = page.get_by_role("combobox", name="Memory to fit into")
    memory.fill("4 MiB")
    memory.press("Enter")
    meter = page.get_by_role("meter")
    expect(meter).to_have_attribute("data-over", "true")
    expect(meter).to_contain_text("predicted")
    expect(meter).to_contain_text("of 4 MiB")
    shoot_both(page, "canvas_hints")
    hint.get_by_role("button", name="Remove layer_norm").click()
    expect(hint).to_have_count(0)
    settled(page)
    memory.fill("a lot")
    memory.press("Enter")
    expect(page.get_by_text("A budget is a size in bytes")).to_be_visible()
    expect(meter).to_contain_text("of 4 MiB")
