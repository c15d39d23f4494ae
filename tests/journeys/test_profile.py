"""A design is profiled, every view is opened, a finding leads to its component; then a training of it is, under way."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from test_canvas import open_design, settled

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
OF_PROFILES = {
    "Roofline": "arithmetic intensity",
    "Timeline": "What ran when",
    "Memory": "Of the peak of",
    "Operators": "operator",
    "By input": "class of input",
    "Downloads": "Parquet",
}
OF_TRACES = (
    "Components",
    "Timeline",
    "Operators",
    "Kernels",
    "Waiting",
    "Communication",
    "Memory",
    "Downloads",
    "Compare",
)


def turn(page: Page, view: str) -> None:
    """Turn to a view and wait until it stands."""
    page.get_by_test_id("stButtonGroup").get_by_role("radio", name=view).first.click()
    page.wait_for_url(re.compile(r"view="))
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_a_step_is_profiled_and_looked_at_from_all_sides(page: Page, shoot_both: Any) -> None:
    open_design(page, "lstm_attention_mini")
    settled(page)
    page.get_by_role("button", name="Profile", exact=True).click()
    expect(page.get_by_role("heading", name="Profile", exact=True)).to_be_visible()
    steps = page.get_by_label(re.compile("^Steps"))
    steps.fill("3")
    steps.press("Enter")
    expect(page.get_by_text("Predicted: ")).to_be_visible()
    page.get_by_role("button", name="Profile", exact=True).click()
    page.wait_for_url(re.compile(r"run="))
    expect(page.get_by_text("Step, measured", exact=True)).to_be_visible()
    expect(page.get_by_text(re.compile(r"predicted \([+-]"))).to_have_count(2)
    shoot_both(page, "profile_overview")

    for view, words in OF_PROFILES.items():
        turn(page, view)
        expect(page.get_by_text(words).first).to_be_visible()
        if view in ("Roofline", "Memory"):
            shoot_both(page, f"profile_{view.lower()}")
    turn(page, "Findings")
    shoot_both(page, "profile_findings")
    page.get_by_role("button", name="Select in the network").first.click()
    expect(page.get_by_text("Step, measured", exact=True)).to_be_visible()
    chosen = page.get_by_role("button", name=re.compile("^Time of a step, measured"), pressed=True)
    expect(chosen).to_have_count(1)
    expect(page.get_by_text("Click a box of the network")).to_have_count(0)

    # In training, twenty steps are recorded while it goes on; what it uses of the machine is seen meanwhile.
    page.get_by_test_id("stTopNavLink").filter(has_text="Design").click()
    page.get_by_role("button", name="Train this").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    steps = page.get_by_label(re.compile("^Steps"))
    steps.fill("20000")
    steps.press("Enter")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text(re.compile(r"Step [1-9][\d,]* of 20,000"))).to_be_visible()
    page.get_by_role("button", name="Profile the next 20 steps").click()
    expect(page.get_by_text(re.compile(r"Steps [\d,]+ to [\d,]+ are in the trace"))).to_be_visible()
    use = page.get_by_text(re.compile("^Processor.*100 % is one core"))
    expect(use.first).to_be_visible()
    use.first.scroll_into_view_if_needed()
    shoot_both(page, "train_utilisation")
    csv = page.get_by_role("button", name="Utilisation (CSV)")
    with page.expect_download() as downloaded:
        csv.click()
    rows = downloaded.value.path().read_text(encoding="utf-8").splitlines()
    assert any("cpu_percent" in row for row in rows)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    page.get_by_role("button", name="Look at the trace").click()
    page.wait_for_url(re.compile(r"trace="))
    expect(
        page.get_by_test_id("stButtonGroup").get_by_role("radio", name="Kernels")
    ).to_be_visible()
    shoot_both(page, "trace_overview")
    for view in OF_TRACES:
        turn(page, view)
        if view in ("Components", "Timeline"):
            shoot_both(page, f"trace_{view.lower()}")
    turn(page, "Kernels")
    expect(page.get_by_text(re.compile("device", re.IGNORECASE)).first).to_be_visible()
