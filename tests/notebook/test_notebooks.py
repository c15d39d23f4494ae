"""The notebooks run from top to bottom, and show what they say they show."""

from __future__ import annotations

import os
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


@pytest.mark.slow
def test_the_first_notebook_runs(tmp_path: Path, supervisor_ender: Callable[[Path], None]) -> None:
    cells = execute(TOP / "notebooks" / "01_first_hybrid.ipynb", tmp_path)
    supervisor_ender(tmp_path / "home")
    assert cells and all(cell.execution_count for cell in cells)
    assert not [out for cell in cells for out in cell.outputs if out.output_type == "error"]
    by_source = {cell.source.splitlines()[-1]: cell for cell in cells}
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


def test_every_notebook_is_run_by_a_test() -> None:
    run = {
        "01_first_hybrid",
        "02_profile",
    }  # the second one in tests/app/pages/test_profile_agrees.py
    assert {path.stem for path in NOTEBOOKS} == run


def test_notebooks_are_kept_without_outputs() -> None:
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        assert not any(cell.get("outputs") for cell in notebook.cells), (
            f"clear the outputs of {path.name}"
        )
