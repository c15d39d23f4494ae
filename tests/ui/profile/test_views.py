"""The views of a profile on a page: each draws, is clicked through, and gives away what it shows."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from torch import nn

from hybridlab.hardware.caches import Cache
from hybridlab.profiling.findings import PLAN, Finding
from hybridlab.profiling.report import Report, report
from hybridlab.ui import shell
from hybridlab.ui.profile.downloads import _zipped
from hybridlab.ui.profile.figure import file_name
from hybridlab.ui.profile.findings import _evidence
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.train import setup
from hybridlab.views import standalone
from tests.profiling.profiles import CEILINGS, profile_of, training

TEXT = """
name: small
width: 8
nodes:
  - {id: mix, use: swiglu}
  - {id: act, use: rmsnorm}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("opened")
    profile = profile_of(
        training(mix=nn.Linear(32, 512), act=nn.GELU()), {"mix": 9.0}, {"mix": 2.0}
    )
    profile.save(made)
    report(profile, (Cache("L1", 4096),), CEILINGS).save(made / "report")
    return made


def drawn(folder: Path, view: str, text: str = TEXT) -> AppTest:
    """Draw one view on a page of its own."""

    def page(folder: str, view: str, text: str) -> None:
        import json
        from pathlib import Path

        from hybridlab.ui.profile.opened import Opened
        from hybridlab.ui.profile.sections import OF_PROFILES

        place = Path(folder)
        figures = json.loads((place / "profile.json").read_text())
        opened = Opened("test", "a test", "profile", place, figures, text)
        {section.name: section for section in OF_PROFILES}[view].draw(opened)

    at = AppTest.from_function(page, args=(str(folder), view, text), default_timeout=60).run()
    assert not at.exception, [error.value for error in at.exception]
    return at


def labels(at: AppTest) -> list[str]:
    return [str(button.proto.label) for button in at.get("download_button")]


@pytest.mark.parametrize("view", ["roofline", "timeline"])
def test_a_figure_has_its_downloads(folder: Path, view: str) -> None:
    at = drawn(folder, view)
    assert at.get("plotly_chart") and labels(at)[:3] == ["HTML", "CSV", "Parquet"]


def test_every_picture_of_memory_draws(folder: Path) -> None:
    at = drawn(folder, "memory")
    for picture in ("live", "raster", "reuse", "hand_overs", "kept"):
        at.button_group[0].set_value(picture).run()
        assert not at.exception and at.get("plotly_chart"), picture
    at.button_group[0].set_value("live").run()
    at.button_group[2].set_value("predicted").run()
    assert not at.exception


def test_the_timeline_goes_into_a_phase(folder: Path) -> None:
    at = drawn(folder, "timeline")
    whole = at.slider[0].value
    at.button_group[0].set_value("backward").run()
    assert at.slider[0].value[0] > whole[0]
    low, high = at.slider[0].value
    at.slider[0].set_range(low, (low + high) / 2).run()
    assert not at.exception


def test_operators_are_found_by_name(folder: Path) -> None:
    at = drawn(folder, "operators")
    every = len(at.dataframe[0].value)
    at.text_input[0].set_value("gelu").run()
    assert 0 < len(at.dataframe[0].value) < every


def test_a_finding_leads_to_its_view_and_component(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[str] = []
    monkeypatch.setattr(shell, "go", lambda page, **query: went.append(page))
    at = drawn(folder, "findings")
    words = "\n".join(str(element.value) for element in at.markdown)
    assert "times its prediction" in words
    place = next(index for index, row in enumerate(_told(folder)) if "times its prediction" in row)
    at.button(key=f"test.finding.{place}.network").click().run()
    assert at.session_state["test.view"] == "overview"
    assert at.session_state["hybridlab"]["profile.component"] == "mix"
    at.button(key=f"test.finding.{place}.view").click().run()
    assert at.session_state["test.view"] == "roofline"
    at.button(key=f"test.finding.{place}.design").click().run()
    design = at.session_state["hybridlab"]["design"]
    assert went == [shell.DESIGN] and design.text == TEXT and design.selected == "nodes[0]"


def test_a_finding_about_memory_leads_to_the_page_that_plans_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[str] = []
    monkeypatch.setattr(shell, "go", lambda page, **query: went.append(page))
    told = Finding("The peak waits for backward", 0.5, "warning", ("mix",), "memory", PLAN, {})
    Report({}, (told,)).save(tmp_path / "report")
    training = {"task": "parity", "task_params": {"length": 16}, "batch": 24, "device": "cpu"}
    figures = json.loads((folder / "profile.json").read_text()) | {"training": training}
    (tmp_path / "profile.json").write_text(json.dumps(figures))
    at = drawn(tmp_path, "findings")
    at.button(key="test.finding.0.memory").click().run()
    kept = at.session_state["hybridlab"]
    assert went == [shell.MEMORY] and kept["design"].text == TEXT
    assert (kept["train_source"], kept["train_task"]) == (setup.DESIGN, "parity")
    assert kept["task_params.parity"] == {"length": 16} and kept["settings.parity"] == {"batch": 24}
    assert at.button(key="test.finding.0.design")


def _told(folder: Path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_table(folder / "report" / "findings.parquet")["sentence"].to_pylist())


def test_evidence_has_units() -> None:
    text = json.dumps({"ms": 2.5, "call_us": 1.5, "kept_bytes": 2048, "operators": 1234})
    assert _evidence(text) == "time: 2.5 ms, call: 1.5 µs, kept: 2 KiB, operators: 1,234"


def test_everything_can_be_taken_away(folder: Path) -> None:
    assert len(labels(drawn(folder, "downloads"))) == 4
    tables = zipfile.ZipFile(BytesIO(_zipped(folder / "report", "*.parquet"))).namelist()
    assert {"roofline.parquet", "findings.parquet", "live.parquet"} <= set(tables)
    streams = zipfile.ZipFile(BytesIO(_zipped(folder, "*/ops.parquet"))).namelist()
    assert streams == ["measured/ops.parquet", "predicted/ops.parquet"]


def test_a_profile_without_tables_says_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_bytes((folder / "profile.json").read_bytes())
    for view in ("memory", "findings"):
        at = drawn(tmp_path, view)
        assert len(at.info) == 1 and not at.get("plotly_chart"), view


def test_the_camera_of_every_figure_saves_what_was_chosen(folder: Path) -> None:
    at = drawn(folder, "downloads")
    assert at.button_group(key="picture_format").value == "svg"
    at.button_group(key="picture_format").set_value("png").run()
    assert not at.exception and at.session_state["hybridlab"]["picture"] == "png"
    saved = standalone.tools("a figure", "png")["toImageButtonOptions"]
    assert saved == {"format": "png", "filename": "a figure", "scale": 2}


def test_files_have_harmless_names() -> None:
    opened = Opened("key", "../a b/<c>", "profile", Path(), {})
    assert file_name(opened, "live", "csv") == "a-b-c-live.csv"
