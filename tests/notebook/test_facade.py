"""What `import hybridlab as hl` gives, outside a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import hybridlab as hl
from hybridlab import notebook
from hybridlab.architecture.library import presets

TEXT = "name: small\nwidth: 16\nnodes:\n  - {use: lstm}\n  - {id: pair, repeat: 2, nodes: [{use: mlp}]}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_preset_a_file_and_a_text_load(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(TEXT)
    assert hl.load(TEXT) == hl.load(file) == hl.load(str(file))
    assert hl.load("hymba_mini").name == "hymba-mini"


def test_what_is_wrong_is_an_error_with_problems(home: Path) -> None:
    with pytest.raises(hl.SpecError) as raised:
        hl.load("no_such_preset")
    assert "hymba_mini" in str(raised.value)
    with pytest.raises(hl.SpecError):
        hl.load("name: x\nnodes: 3")


def test_presets_are_a_table(home: Path) -> None:
    assert set(hl.presets()["name"]) == {entry.name for entry in presets()}


def test_show_adds_up(home: Path) -> None:
    table = hl.show(TEXT, task="digits_sequence", batch=4)
    parts, total = table.iloc[:-1], table.iloc[-1]
    assert parts["params"].sum() == total["params"]
    assert parts["flops"].sum() == total["flops"] > 0
    assert (
        hl.show(TEXT, task="digits_sequence", batch=8).loc["total", "flops"] == 2 * total["flops"]
    )


def test_an_architecture_draws_itself_in_a_shell(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = InteractiveShell()
    monkeypatch.setattr(notebook, "running_shell", lambda: shell)
    notebook._register()
    drawn, _ = shell.display_formatter.format(hl.load(TEXT))
    assert drawn["text/html"].startswith("<svg")
    assert "pair × 2" in drawn["text/html"]
    assert drawn["text/plain"].splitlines()[1:] == [
        "  lstm: lstm",
        "  pair: group × 2",
        "    mlp: mlp",
    ]


def test_names_are_made_harmless(home: Path) -> None:
    drawn = notebook._drawn(hl.load(TEXT.replace("small", '"<script>alert(1)</script>"')))
    assert "<script" not in drawn


def test_a_wrong_architecture_still_draws_with_its_error(home: Path) -> None:
    drawn = notebook._drawn(hl.load(TEXT.replace("{use: lstm}", "{use: attention, heads: 5}")))
    assert "does not divide" in drawn


def test_a_run_that_cannot_start_says_why(home: Path) -> None:
    with pytest.raises(hl.SpecError, match="steps"):
        hl.train(TEXT, task="parity", steps=0)
    with pytest.raises(hl.HybridLabError, match="unknown task"):
        hl.train(TEXT, task="party")


def test_sizes_of_input_need_a_task(home: Path) -> None:
    with pytest.raises(hl.HybridLabError, match="a task and an architecture"):
        hl.profile(TEXT, 2, by_size=True)


def test_no_runs_are_an_empty_table(home: Path) -> None:
    assert list(hl.list_runs().columns) == ["id", "name", "state", "step"]
    assert hl.list_runs().empty
