"""What a person does who trains in another way than in one piece: in stages, from a teacher, on several tasks."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]


def quiet(page: Page) -> None:
    """Wait until the server has nothing more to draw."""
    page.wait_for_timeout(250)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


def pick(page: Page, label: str, option: str) -> None:
    """Choose in a list that can be searched."""
    box = page.get_by_role("combobox", name=re.compile(f"{label}$"))
    if box.input_value() == option:
        return
    box.click()
    box.press_sequentially(option)
    page.get_by_role("option", name=re.compile(re.escape(option))).first.click()
    quiet(page)


def fill(page: Page, label: str, value: str) -> None:
    """Write a setting and leave it."""
    field = page.get_by_label(re.compile(f"^{label}"), exact=True).first
    field.fill(value)
    field.press("Enter")
    quiet(page)


def unfolded(page: Page, name: str) -> Locator:
    """Unfold a part of the page, bring it into view and return it."""
    part = page.get_by_test_id("stExpander").filter(has=page.locator("summary", has_text=name))
    part.locator("summary").click()
    quiet(page)
    centred(page, part)
    return part


def centred(page: Page, part: Locator) -> None:
    """Bring a part of the page to its middle."""
    part.evaluate("part => part.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(150)


def write_row(page: Page, table: Locator, values: tuple[str, ...]) -> None:
    """Write the first cells of a new row, one after the other, as a hand does."""
    centred(page, table)
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 70, box["y"] + box["height"] - 17)
    for place, value in enumerate(values):
        if place:  # the click has opened the first cell
            page.keyboard.press("Enter")
        cell = page.locator("#portal").locator("textarea, input").last
        cell.fill(value)
        cell.press("Tab")
        quiet(page)


def train(page: Page) -> str:
    """Start the training, wait for its result and return the run's id."""
    expect(page.get_by_test_id("stMetric").filter(has_text="Time, predicted")).to_contain_text(
        re.compile(r"\d")
    )
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"run="))
    expect(page.get_by_text("Ended because").first).to_be_visible()
    quiet(page)
    return parse_qs(urlsplit(page.url).query)["run"][0]


def anew(page: Page) -> None:
    """Go back to the settings."""
    page.get_by_role("button", name="New training").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    quiet(page)


def test_stages_a_teacher_and_several_tasks(page: Page, shoot_both: Any) -> None:
    page.goto("/train")
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    quiet(page)

    # Two stages, written into the table cell by cell; the run says in which it is, and its curves where one begins.
    pick(page, "Architecture", "lstm_attention_mini")
    pick(page, "Task", "Associative recall")
    fill(page, "Steps", "60")
    fill(page, "Eval every", "20")
    part = unfolded(page, "Stages")
    expect(part.get_by_text("There are no stages yet")).to_be_visible()
    table = part.get_by_test_id("stDataFrame")
    write_row(page, table, ("easy", "pairs: 2, length: 32", "30", "0.9"))
    write_row(page, table, ("all of it",))
    expect(part.locator("summary")).to_contain_text("Stages (2)")
    centred(page, part)
    shoot_both(page, "strategies-1-stages")
    page.get_by_role("button", name="Start training").click()
    expect(
        page.get_by_text(re.compile(r"Step [\d,]+ of 60, stage (easy \(1|all of it \(2) of 2\)"))
    ).to_be_visible()
    curve = page.get_by_role("img", name=re.compile("^Training loss: .*all of it from step 30"))
    expect(curve).to_be_visible()
    expect(page.get_by_text("Ended because").first).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Learning rate: "))).to_be_visible()
    centred(page, curve)
    shoot_both(page, "strategies-2-borders")

    # A run on the digits, which then teaches a smaller design; its page says what that kept and what it saves.
    anew(page)
    pick(page, "Architecture", "transformer_mini")
    pick(page, "Task", "Digits, pixel by pixel")
    fill(page, "Steps", "12")
    teacher = train(page)
    anew(page)
    pick(page, "Architecture", "lstm_attention_mini")
    part = unfolded(page, "Learn from a teacher")
    pick(page, "Teacher", teacher)
    part.get_by_text("Hidden states", exact=True).click()
    quiet(page)
    expect(part.get_by_text("Components that are compared")).to_be_visible()
    teachers, students = part.locator(".board").first, part.locator(".board").last
    teachers.locator('[data-path="nodes[1].nodes[1]"]').click()
    expect(part.get_by_text("Now click what is to be like block.swiglu")).to_be_visible()
    students.locator('[data-path="nodes[1]"]').click()
    expect(part.get_by_text("compared: 2", exact=True)).to_have_count(2)
    expect(part.get_by_role("button", name="Back to the suggestion")).to_be_visible()
    centred(page, part)
    shoot_both(page, "strategies-3-teacher")
    train(page)
    kept = page.get_by_test_id("stMetric").filter(has_text="Quality kept")
    expect(kept).to_contain_text("%")
    saved = page.get_by_test_id("stMetric").filter(has_text="FLOPs saved")
    expect(saved).to_contain_text("%")
    expect(page.get_by_role("img", name=re.compile("^Difference from the teacher"))).to_be_visible()
    centred(page, kept)
    shoot_both(page, "strategies-4-kept")

    # Two questions about the same digits; what both learn from is marked, and each has its own curve.
    anew(page)
    part = unfolded(page, "Learn from a teacher")
    pick(page, "Teacher", "nobody")
    part = unfolded(page, "Several tasks")
    pick(page, "Tasks learnt beside it", "Digits, odd or even")
    page.keyboard.press("Escape")
    expect(part.locator("summary")).to_contain_text("Several tasks (2)")
    centred(page, part)
    shoot_both(page, "strategies-5-several")
    train(page)
    by_task = page.get_by_role("img", name=re.compile("^Loss by task.*digits_parity"))
    expect(by_task).to_be_visible()
    centred(page, by_task)
    shoot_both(page, "strategies-6-by-task")
    part = unfolded(page, "Several tasks")
    expect(page.get_by_text("there is no run on it alone to compare with").first).to_be_visible()
    expect(page.get_by_text("shared by 2").first).to_be_visible()
    expect(page.get_by_text("only digits_parity").first).to_be_visible()
    expect(page.get_by_role("button", name="Train each task alone")).to_be_visible()
    shoot_both(page, "strategies-7-shared")

    # The data themselves.
    anew(page)
    page.get_by_text("Show the data", exact=True).click()
    expect(page.get_by_text("Training sample 1, and its answer")).to_be_visible()
    centred(page, page.get_by_text("Training sample 1, and its answer"))
    shoot_both(page, "strategies-8-data")

    # A file of one's own, whose answers are numbers; its unit goes with them.
    pick(page, "Task", "Your own data, numbers")
    rows = "\n".join(f"{i % 7},{i * 3 % 11},{i * 1.5}" for i in range(80))
    fish = {
        "name": "fish.csv",
        "mimeType": "text/csv",
        "buffer": f"long,high,weight\n{rows}".encode(),
    }
    page.locator("input[type=file]").set_input_files([fish])
    pick(page, "Answer", "weight")
    expect(page.get_by_role("radio", name="numbers")).to_be_checked()
    fill(page, "Counted in", "g")
    centred(page, page.get_by_label(re.compile("^Counted in")))
    shoot_both(page, "strategies-9-numbers")
    page.get_by_role("button", name="Keep it and learn from it").click()
    expect(page.get_by_text("Metric: test mean abs error in g.")).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
