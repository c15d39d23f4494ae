"""What nodes cost and what a training measures of them, on the canvas, in the real app."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from test_canvas import CANVAS, drag, entry, middle, node, open_design, settled, shot

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
STEPS = 2_000
MIXER = "nodes[0].nodes[0]"
LEGEND = f"{CANVAS} .hl-legend"
RUN = f"{LEGEND} .hl-run"


def choose(page: Page, overlay: str) -> None:
    page.locator(f"{CANVAS} .hl-choice").select_option(overlay)


def says(page: Page, path: str) -> str:
    """Return what a node or a group's head shows of the overlay."""
    found: Locator = node(page, path).locator(".hl-reading").first
    return found.inner_text()


def test_the_nodes_show_what_is_chosen(page: Page, shoot: Any, shoot_both: Any) -> None:
    open_design(page, "jamba_mini")
    settled(page)
    plain = node(page, MIXER).locator(".hl-costs").inner_text()
    texts = {}
    for overlay, unit in (
        ("params", "k"),
        ("flops", "FLOP"),
        ("activation_bytes", "iB"),
        ("ms", "s"),
    ):
        choose(page, overlay)
        expect(page.locator(LEGEND)).to_contain_text("predicted")
        texts[overlay] = says(page, MIXER)
        assert unit in texts[overlay]
        shares = re.findall(r"(<?\d+) % of all", says(page, "nodes[0]") + texts[overlay])
        assert len(shares) == 2, "a group and a node, each with its share"
    assert len(set(texts.values())) == 4
    shoot_both(page, "canvas_overlay_ms")
    page.locator(CANVAS).focus()
    page.keyboard.press("o")
    expect(page.locator(LEGEND)).to_contain_text("Gradient norm")
    expect(page.locator(LEGEND)).to_contain_text("A training of this design brings these")
    shot(page, shoot, "overlay_nothing_measured")
    page.reload()
    open_design(page, "jamba_mini")
    expect(page.locator(LEGEND)).to_contain_text("Gradient norm")
    choose(page, "")
    settled(page)
    assert node(page, MIXER).locator(".hl-costs").inner_text() == plain
    assert not page.locator(LEGEND).count()


def test_a_training_is_seen_on_the_nodes(page: Page, shoot_both: Any) -> None:
    open_design(page, "jamba_mini")
    settled(page)
    choose(page, "ms")
    before = says(page, MIXER)
    drag(page, entry(page, "gated_linear_attention"), middle(node(page, MIXER)))
    settled(page)
    expect(node(page, MIXER)).to_have_attribute("data-use", "gated_linear_attention")
    assert says(page, MIXER) != before
    choose(page, "grad_norm")
    expect(page.locator(LEGEND)).to_contain_text("A training of this design brings these")

    page.get_by_role("button", name="Train this").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    steps = page.get_by_label(re.compile("^Steps"))
    steps.fill(str(STEPS))
    steps.press("Enter")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"run="))
    run = page.url
    expect(page.get_by_text(re.compile(r"Step [1-9][\d,]* of 2,000"))).to_be_visible()
    page.get_by_test_id("stTopNavLink").filter(has_text="Design").click()

    expect(page.locator(RUN)).to_contain_text(re.compile(r"step \d+ of 2,000, running"))
    expect(page.locator(LEGEND)).to_contain_text("measured")
    page.evaluate(f"document.querySelector('{CANVAS}').dataset.same = 'yes'")
    step = int(page.locator(RUN).get_attribute("data-step") or 0)
    said = says(page, MIXER)
    assert float(said) > 0
    assert says(page, "nodes[0]"), "the group has its own norm"
    shoot_both(page, "canvas_overlay_live_gradients")
    expect(page.locator(RUN)).not_to_have_attribute("data-step", str(step))
    assert says(page, MIXER) != said
    newer = int(page.locator(RUN).get_attribute("data-step") or 0)
    assert newer > step

    # While numbers come in, nodes are dragged as always, and the canvas is the very same.
    group = node(page, "nodes[0]")
    at = group.bounding_box() or {}
    drag(page, group, (at["x"] + at["width"] / 2 + 90, at["y"] + 22))
    page.wait_for_timeout(1_500)
    assert (group.bounding_box() or {})["x"] > at["x"] + 60
    assert page.locator(CANVAS).get_attribute("data-same") == "yes"

    choose(page, "expert_load")
    experts = node(page, "nodes[0].nodes[3]").locator(".hl-experts i")
    expect(experts).to_have_count(4)
    assert re.search(r"busiest \d+ %\s+even 25 %", says(page, "nodes[0].nodes[3]"))
    page.get_by_role("button", name="Fill the window (W)").click()
    page.get_by_role("button", name="Fit everything in view (0)").click()
    shoot_both(page, "canvas_overlay_live_experts")
    page.get_by_role("button", name="Back into the page (W)").click()
    choose(page, "update_ratio")
    assert 0 < float(says(page, MIXER)) < 1

    # Another design is not what was trained.
    node(page, "nodes[0].nodes[1]").click()
    page.keyboard.press("Delete")
    expect(page.locator(LEGEND)).to_contain_text("A training of this design brings these")
    page.keyboard.press("Control+z")
    expect(page.locator(RUN)).to_contain_text("running")
    page.goto(run)
    page.get_by_text("The network, as it learns").click()
    told = page.get_by_text(re.compile(r"measured at step \d+"))
    expect(told).to_be_visible()
    told.scroll_into_view_if_needed()
    page.wait_for_timeout(800)
    shoot_both(page, "canvas_train_network")
    first = told.inner_text()
    expect(told).not_to_have_text(first)
    page.get_by_test_id("stButtonGroup").get_by_text("Expert load", exact=True).click()
    expect(page.locator('.board [data-path="nodes[0].nodes[3]"]')).to_contain_text("%")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
