"""Traces on the page: opened by upload or path, read by a process, every view drawn, and empty ones told in words."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from hybridlab.runs import trace_reading, traces
from hybridlab.runs.trace_reading import ReadingState
from hybridlab.ui.profile import trace_open
from hybridlab.ui.profile.sections import OF_TRACES
from hybridlab.ui.profile.trace_measure import time_columns
from hybridlab.ui.profile.trace_overview import _device_table
from hybridlab.workflows import read_trace
from tests.profiling.traces import complete, training, written

VIEWS = [section.name for section in OF_TRACES]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def page() -> None:
    import streamlit as st

    from hybridlab.ui.profile import trace_open
    from hybridlab.ui.profile.sections import sections

    opened_id = st.query_params.get("trace")
    if not opened_id:
        trace_open.start()
        return
    opened = trace_open.opened(opened_id)
    if opened is not None:
        view = st.query_params.get("view", "overview")
        next(each for each in sections(opened) if each.name == view).draw(opened)


def shown(**query: str) -> AppTest:
    at = AppTest.from_function(page, default_timeout=60)
    at.query_params.update(query)
    at.run()
    assert not at.exception, [error.value for error in at.exception]
    return at


def turned(at: AppTest, view: str) -> None:
    """Turn an open page to another view."""
    at.query_params["view"] = view
    at.run()
    assert not at.exception, (view, [error.value for error in at.exception])


def words(at: AppTest) -> str:
    kinds = ("markdown", "caption", "error", "warning", "info")
    return "\n".join(str(item.value) for kind in kinds for item in at.get(kind))


def kept(tmp_path: Path, name: str, events: list) -> traces.Source:
    """Open a trace and read it here, as its process would."""
    source = traces.add_file(written(tmp_path / name, events))
    read_trace.read(source.folder)
    return source


def test_devices_stand_beside_what_their_makers_publish() -> None:
    device = {"id": 0, "memory_bytes": 2**30, "multiprocessors": 80, "compute_capability": "7.0"}
    names = ("Tesla V100-SXM2-16GB", "A card of the future")
    devices = [device | {"name": name} for name in names]
    table = _device_table({"devices": devices, "device_use": []})
    assert list(table["half precision"]) == ["125 TFLOP/s", "not known"]
    assert list(table["memory traffic"]) == ["900 GB/s", "not known"]
    unknown = _device_table({"devices": devices[1:], "device_use": []})
    assert "half precision" not in unknown


def test_columns_of_two_traces_say_which_and_in_what_unit() -> None:
    table = pd.DataFrame({"us_a": [1.23456], "us_b": [2.0], "calls_a": [1], "change_us": [0.8]})
    found = time_columns(table)
    assert [found[name]["label"] for name in table] == [
        "before (µs)",
        "after (µs)",
        "calls before",
        "change (µs)",
    ]
    assert found["us_a"]["type_config"]["format"] == "%.1f"


def test_every_view_of_a_trace_is_drawn(tmp_path: Path) -> None:
    source = kept(tmp_path, "train.json.gz", training())
    at = shown(trace=source.id)
    metrics = {m.label: m.value for m in at.metric}
    assert metrics["Steps"] == "2" and metrics["A step"] == "900 µs"
    for view in VIEWS:
        turned(at, view)
        assert not at.error, (view, words(at))
        if view not in ("downloads", "compare"):
            assert at.get("plotly_chart"), view
        if view == "memory":
            assert "Fragmentation (*measured*, reserved minus allocated): 3.64 KiB" in words(at)


def test_a_memory_timeline_is_drawn_at_once(tmp_path: Path) -> None:
    path = tmp_path / "timeline.raw.json"
    path.write_text("[[-1, 1, 100, 0], [-1, 1, 50, 7], [5, 2, 40, 4], [9, 4, -40, 4]]")
    source = traces.add_file(path)
    read_trace.read(source.folder)
    at = shown(trace=source.id)
    assert {metric.label: metric.value for metric in at.metric} == {"Peak": "190 B"}
    assert len(at.get("plotly_chart")) == 1


def test_what_a_trace_does_not_hold_is_told_in_a_sentence(tmp_path: Path) -> None:
    source = kept(tmp_path, "cpu.json", [complete("cpu_op", "aten::mm", 0, 5)])
    at = shown(trace=source.id)
    for view, part in {
        "overview": "recorded no kernels on a device",
        "components": "names no components",
        "kernels": "recorded no kernels",
        "waiting": "recorded no device",
        "communication": "Nothing was communicated",
        "memory": "recorded no memory",
        "compare": "no other trace",
    }.items():
        turned(at, view)
        assert part in words(at), view


def test_two_traces_are_compared_by_a_process_that_the_page_waits_for(tmp_path: Path) -> None:
    before = kept(tmp_path, "before.json", training())
    after = kept(
        tmp_path, "after.json", [*training(), complete("cpu_op", "new::op", 1_000_240, 50)]
    )
    at = shown(trace=before.id, view="compare")
    at.selectbox[0].set_value(after.id).run()
    folder = trace_reading.beside("compare", [before.id, after.id])
    assert trace_reading.wait(folder).state is ReadingState.READ
    at.run()
    assert not at.exception and not at.error
    assert {m.label for m in at.metric} >= {"A step before", "A step after", "Change"}
    assert at.get("plotly_chart")


def test_an_upload_is_read_shown_refused_and_deleted(tmp_path: Path) -> None:
    at = shown()
    at.get("file_uploader")[0].set_value(
        ("not_one.json", b'{"model": 1}', "application/json")
    ).run()
    (trace_id,) = (source.id for source in traces.all_traces())
    assert trace_id in at.query_params["trace"]
    assert "not\\_one\\.json" in words(at)
    source = traces.get(trace_id)
    assert trace_reading.wait(source.folder).state is ReadingState.FAILED
    at.run()
    assert "but not the trace of a profiler" in at.error[0].value
    listed = shown()
    assert "refused" in words(listed)
    listed.button(key=f"trace.delete.{trace_id}").click().run()
    assert traces.all_traces() == []
    assert "is not here" in shown(trace=trace_id).error[0].value


def test_files_of_the_machine_are_offered_to_the_machine_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known, listening = st.get_option, [""]
    monkeypatch.setattr(
        st, "get_option", lambda name: listening[0] if name == "server.address" else known(name)
    )
    addresses = ("", "0.0.0.0", "10.1.2.3", "example.org", "127.0.0.1", "::1", "localhost")
    for address in addresses:
        listening[:] = [address]
        assert trace_open.paths_allowed() is (address in addresses[-3:])
    behind = {"X-Forwarded-For": "10.0.0.7"}
    for headers, allowed in (
        ({"Host": "localhost:8501"}, True),
        ({"Host": "[::1]:8501"}, True),
        ({"Host": "lab.example.org"}, False),
        ({"Host": "localhost:8501", **behind}, False),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(type(st.context), "headers", headers)
            assert trace_open.paths_allowed() is allowed
    at = shown()
    at.text_input[0].set_value(str(tmp_path / "none.json"))
    at.button[0].click().run()
    assert "no such file" in at.error[0].value
    listening[:] = ["0.0.0.0"]
    assert not at.run().text_input
