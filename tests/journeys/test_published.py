"""The doors for published models: a config.json, a layer pattern, and what is no model, in the real app."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
CANVAS = ".hl-canvas"
TINY = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def door(page: Page) -> Locator:
    """Open the start page of the designer, and there the door for published models."""
    page.bring_to_front()
    page.goto("/design")
    place = page.locator(".st-key-published")
    place.locator("summary").click()
    place.get_by_text("config.json of a model").wait_for()
    return place


def give(place: Locator, content: object, name: str = "config.json") -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    file: Any = {"name": name, "mimeType": "application/json", "buffer": text.encode()}
    place.locator("input[type=file]").set_input_files(file)


def uses(page: Page) -> list[str]:
    """Wait until the canvas has its costs; return the components in reading order."""
    page.locator(CANVAS).wait_for()
    expect(page.locator(f'{CANVAS}[data-pending="0"][data-costs="current"]')).to_be_visible()
    boxes = page.locator(f"{CANVAS} .hl-box[data-use]:not(.hl-supplied)")
    found = boxes.evaluate_all("all => all.map(one => [one.dataset.path, one.dataset.use])")
    return [use for _, use in sorted(found)]


def test_a_config_is_seen_as_a_design_and_what_is_none_gets_its_sentence(
    page: Page, shoot_both: Any
) -> None:
    place = door(page)
    give(place, {**TINY, "model_type": "lama", "hidden_size": "wide"})
    told = page.get_by_test_id("stAlert")
    expect(told.first).to_contain_text("did you mean 'llama'?")
    told.first.scroll_into_view_if_needed()
    shoot_both(page, "published_refused")
    place.get_by_text("Shrink it to a size").click()  # as it is published
    give(place, TINY)
    assert uses(page) == ["token_embedding", "attention", "swiglu", "rms_norm", "lm_head"]
    expect(page.get_by_role("heading", name="llama")).to_be_visible()
    shoot_both(page, "published_config")


def test_a_megatron_pattern_is_seen_as_a_design(page: Page, shoot_both: Any) -> None:
    place = door(page)
    field = place.get_by_role("textbox", name="Layer pattern of a Megatron-LM hybrid")
    field.fill("M-MX")
    field.press("Enter")
    place.get_by_role("button", name="Read the pattern").click()
    expect(page.get_by_test_id("stAlert").first).to_contain_text("'X' at position 4")
    field.fill("M-M*-E")
    field.press("Enter")
    place.get_by_role("button", name="Read the pattern").click()
    assert uses(page) == ["mamba2", "mlp", "mamba2", "attention", "mlp", "moe"]
    shoot_both(page, "published_pattern")
