"""The page of every component, written from its own file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hybridlab.components.base import Kind
from hybridlab.components.pages import DATA_FLOW, page, page_of
from hybridlab.components.registry import palette
from hybridlab.errors import SpecError

EQUATION = re.compile(r"``[^`:]+ [^`:]+``")
"""Between double backticks, more than one word: neither the name of a parameter nor a line of a design."""


@pytest.mark.parametrize("name", list(palette()))
def test_a_page_says_all_that_the_file_does(name: str) -> None:
    info, text = palette()[name], page(name, ["one", "two"])
    assert text.startswith(f"# {info.title}\n\n`{name}`, ")
    assert info.summary in text and info.paper in text and f"Cost in length: {info.cost}." in text
    assert "Presets that use it: `one`, `two`." in text
    assert EQUATION.search(text.partition("## Data flow")[0]), "its docstring has no equation"
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    fields = info.cls.Params.model_fields
    assert [row.split("`")[1] for row in rows] == list(fields)
    for row, item in zip(rows, fields.values(), strict=True):
        assert (item.description or "") in row.replace("\\|", "|") and row.count(" | ") >= 4
    assert "## Data flow\n\n" in text and "output" in text.split("## Data flow")[1]
    assert ("## Speed\n\nNot yet measured" in text) == (info.kind is Kind.TOKEN_MIXER)
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


def test_a_page_says_what_was_measured_where_and_when(tmp_path: Path) -> None:
    rows = [
        {"mixer": "mamba2", "length": 1024, "ms": 41.26, "times_attention": 0.5},
        {"mixer": "mamba2", "length": 256, "ms": 9.0, "times_attention": 1.25},
        {"mixer": "lstm", "length": 256, "ms": 77.0, "times_attention": 3.0},
    ]
    about = {"date": "2026-01-02", "machine": "an abacus", "settings": {"batch": 4, "width": 256}}
    file = tmp_path / "mixers.json"
    file.write_text(json.dumps({"rows": rows, "torch": "2.13", **about}), encoding="utf-8")
    text = page("mamba2", speeds=file)
    assert "*Measured* 2026-01-02 on an abacus, torch 2.13" in text and "batch 4, width 256" in text
    assert text.index("| 256 | 9.0 | 1.25 |") < text.index("| 1,024 | 41.3 | 0.50 |")
    assert "77.0" not in text
    for content in ("", "[]", '{"rows": 3}', '{"rows": [1]}'):
        file.write_text(content, encoding="utf-8")
        assert "Not yet measured here: run `benchmarks/mixers.py`." in page("mamba2", speeds=file)


def test_no_page_without_a_component() -> None:
    with pytest.raises(SpecError, match="did you mean 'attention'"):
        page("atention")


def test_a_page_is_its_parts_and_the_flow_is_what_is_pictured() -> None:
    found = page_of("swiglu", ["one"])
    assert found.markdown() == page("swiglu", ["one"])
    titles = [part.title for part in found.sections if part.title]
    assert titles == [DATA_FLOW, "Facts", "Parameters"]
    (picture,) = [part.text for part in found.sections if part.title == DATA_FLOW]
    assert all(step.label.replace('"', "#quot;") in picture for step in found.flow.steps)
