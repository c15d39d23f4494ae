"""The page of every component, written from its own file."""

from __future__ import annotations

import pytest

from hybridlab.components.pages import page
from hybridlab.components.registry import palette
from hybridlab.errors import SpecError


@pytest.mark.parametrize("name", list(palette()))
def test_a_page_says_all_that_the_file_does(name: str) -> None:
    info, text = palette()[name], page(name, ["one", "two"])
    assert text.startswith(f"# {info.title}\n\n`{name}`, ")
    assert info.summary in text and info.paper in text and f"Cost in length: {info.cost}." in text
    assert "Presets that use it: `one`, `two`." in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    fields = info.cls.Params.model_fields
    assert [row.split("`")[1] for row in rows] == list(fields)
    for row, item in zip(rows, fields.values(), strict=True):
        assert (item.description or "") in row.replace("\\|", "|") and row.count(" | ") >= 4
    assert "None" not in text.replace("None.", "") and "  \n" not in text


def test_a_page_writes_ranges_choices_and_figures() -> None:
    text = page("attention")
    assert "| `heads` | 4 | integer ≥ 1, ≤ 1,024 |  | Query heads. |" in text
    assert "| `kv_heads` | empty | integer ≥ 1, ≤ 1,024 or empty |" in text
    assert "| `causal` | yes | yes, no |" in text
    assert "512 B more per token" in text and "Weights at width 64: 16,384." in text
    assert "Presets that use it: none." in text
    assert "| `method` | mean | mean, last, conv |" in page("downsample")
    assert "Reads 2 × sequence; gives sequence." in page("upsample")


def test_no_page_without_a_component() -> None:
    with pytest.raises(SpecError, match="did you mean 'attention'"):
        page("atention")
