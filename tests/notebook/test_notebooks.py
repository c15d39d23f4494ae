"""The notebooks run from top to bottom, and show what they say they show."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TOP = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((TOP / "notebooks").glob("*.ipynb"))


def execute(path: Path, folder: Path) -> list[Any]:
    """Run a notebook in a fresh kernel, with a home of its own; return its code cells."""
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "HYBRIDLAB_HOME": str(folder / "home")}
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any, mime: str) -> list[str]:
    return [out["data"][mime] for out in cell.outputs if mime in out.get("data", {})]


def ran(name: str, folder: Path, supervisor_ender: Callable[[Path], None]) -> dict[str, Any]:
    """Run a notebook without an error; return its code cells by their last lines."""
    cells = execute(TOP / "notebooks" / name, folder)
    supervisor_ender(folder / "home")
    assert cells and all(cell.execution_count for cell in cells)
    assert not [out for cell in cells for out in cell.outputs if out.output_type == "error"]
    return {cell.source.splitlines()[-1]: cell for cell in cells}


@pytest.mark.slow
def test_the_first_hybrid(tmp_path: Path, supervisor_ender: Callable[[Path], None]) -> None:
    by_source = ran("01_first_hybrid.ipynb", tmp_path, supervisor_ender)
    (drawn,) = shown(by_source["hybrid"], "text/html")
    assert drawn.startswith("<svg") and "LSTM" in drawn and "Attention" in drawn
    (plain,) = shown(by_source["hybrid"], "text/plain")
    assert "lstm" in plain
    (table,) = shown(by_source['hl.show(hybrid, task="digits_sequence", batch=32)'], "text/html")
    assert "total" in table
    trained = by_source['run = hl.train(hybrid, task="digits_sequence", **settings)']
    assert any(
        "<progress" in text and "done after 60 steps" in text
        for text in shown(trained, "text/html")
    )
    (metrics,) = shown(by_source["run.metrics"], "text/plain")
    assert "test_accuracy" in metrics
    (figure,) = shown(by_source['run.plot("loss")'], "application/vnd.plotly.v1+json")
    assert len(figure["data"]) == 1 and len(figure["data"][0]["y"]) > 0
    (both,) = shown(by_source['hl.compare([run, other], "loss")'], "application/vnd.plotly.v1+json")
    assert len(both["data"]) == 2


@pytest.mark.slow
def test_a_search_and_its_front(
    tmp_path: Path, supervisor_ender: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDLAB_NOTEBOOK_TRIALS", "2")
    by_source = ran("03_search_a_front.ipynb", tmp_path, supervisor_ender)
    searched = next(cell for line, cell in by_source.items() if "hl.run_search" in line)
    words = [text for out in searched.outputs for text in [out.get("data", {}).get("text/plain")]]
    assert any("2 trials" in (text or "") for text in words)
    plotted = by_source['found.plot(x="peak_bytes", y="val_accuracy")']
    (figure,) = shown(plotted, "application/vnd.plotly.v1+json")
    ended = [one for one in figure["data"] if (one.get("name") or "").startswith("front")]
    assert len(ended) == 1
    (table,) = shown(by_source["found.table"], "text/plain")
    assert "val_accuracy" in table and "peak_bytes" in table
    (drawn,) = shown(by_source["chosen"], "text/html")
    assert drawn.startswith("<svg")
    (priced,) = shown(by_source['hl.show(chosen, task="mqar", batch=32)'], "text/html")
    assert "total" in priced


@pytest.mark.slow
def test_less_memory_for_a_step(tmp_path: Path, supervisor_ender: Callable[[Path], None]) -> None:
    by_source = ran("04_less_memory.ipynb", tmp_path, supervisor_ender)
    (drawn,) = shown(by_source["found"], "text/html")
    assert "<svg" in drawn and "computed again" in drawn
    (said,) = shown(by_source["found"], "text/plain")
    off = re.search(r"predicted peak is ([+-][\d.]+) % off", said)
    assert off is not None and abs(float(off[1])) <= 2
    for line in ("found.plot()", "found.timeline()", 'found.timeline("peak")'):
        (figure,) = shown(by_source[line], "application/vnd.plotly.v1+json")
        assert len(figure["data"]) > 0
    (fits,) = shown(by_source["fits"], "text/plain")
    assert "with plans, predicted" in fits
    trained = by_source['len({run.run.result["weights_sha256"] for run in runs})']
    *_, kinds = shown(trained, "text/plain")
    assert kinds == "1"


def test_every_notebook_is_run() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    elsewhere = {"02_profile.ipynb"}  # beside the page, in tests/app/pages/test_profile_agrees.py
    assert all(path.name in elsewhere or f'ran("{path.name}"' in text for path in NOTEBOOKS)


def test_notebooks_are_kept_without_outputs() -> None:
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        assert not any(cell.get("outputs") for cell in notebook.cells), (
            f"clear the outputs of {path.name}"
        )
