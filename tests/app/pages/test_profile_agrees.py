"""One profile three ways: in a notebook, on the command line and on the page, and they say the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import plotly.graph_objects as go
import pytest
from IPython.core.interactiveshell import InteractiveShell

from hybridlab.architecture import library
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.record import RunState
from hybridlab.units import format_bytes, format_seconds
from tests.cli.conftest import Said, cli  # noqa: F401  (a fixture)
from tests.cli.test_profile import steady

NOTEBOOK = Path(__file__).resolve().parents[3] / "notebooks" / "02_profile.ipynb"
OPTIONS = (
    *("--task", "mqar", "--batch", "4", "--steps", "2", "--by-input"),
    *("--lengths", "16,32", "--batches", "4", "--json"),
)


def counted(figures: dict[str, Any]) -> dict[str, Any]:
    """Return what of classes and sizes is no time."""
    classes, sizes = figures["by_input"], figures["by_size"]
    by_class = ("input_class", "samples", "length", "score", "activation_bytes")
    return {
        "classes": [{name: row[name] for name in by_class} for row in classes["classes"]],
        "reports": classes["reports"],
        "sizes": [
            {name: row[name] for name in ("length", "batch", "activation_bytes")}
            for row in sizes["sizes"]
        ],
        "parts": [(row["length"], row["batch"], row["component"]) for row in sizes["components"]],
        "notes": sizes["notes"],
    }


@pytest.mark.slow
def test_notebook_command_line_and_page_agree(
    visitor: Any,
    runs: Any,
    cli: Any,  # noqa: F811
    home: Path,
    machine_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (home / "cache").symlink_to(machine_cache, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    shell, drawn = InteractiveShell(), []
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            ran = shell.run_cell(cell.source)
            ran.raise_error()
            drawn.append(ran.result)
    assert repr(drawn[1]).startswith("lstm-attention-mini on mqar")
    assert sum(isinstance(shown, go.Figure) for shown in drawn) == 2, (
        "memory over the step, and reuse"
    )

    folder = tmp_path / "profiled"
    here = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
    typed: Said = cli("profile", "lstm_attention_mini", *OPTIONS)
    assert steady(here) == steady(typed.json)
    assert counted(here) == counted(typed.json)
    assert len(counted(here)["sizes"]) == 2 and counted(here)["classes"]

    # The page reads the very folder that the notebook wrote, as it reads that of a run.
    text = library.find("lstm_attention_mini").read_text(encoding="utf-8")
    run = runs.running("from the notebook", text=text, kind="profile")
    shutil.copytree(folder, run_folder(run.id) / "profile")
    runs.store.leases.finish(Lease(run.id, "token"), RunState.DONE, result={})
    at = visitor.open("4_Profile", run=run.id)
    told = {metric.label: metric.value for metric in at.metric}
    assert told["Step, measured"] == format_seconds(here["step_ms"]["measured"] / 1e3)
    assert told["Peak memory, measured"] == format_bytes(typed.json["peak_bytes"]["measured"])
    (table,) = [frame.value for frame in at.dataframe]
    work = {row["path"]: row["flops"] for row in typed.json["components"]}
    assert dict(zip(table["component"], table["FLOPs"], strict=True)) == work
    visitor.give(at.button_group(key=f"profile.{run.id}.view"), "inputs")
    classes, sizes = [frame.value for frame in visitor.at.dataframe]
    assert sizes.to_dict("records") == here["by_size"]["sizes"]
    assert classes.to_dict("records") == here["by_input"]["classes"]
