"""What the view of caches says, as a record; and that it can be drawn."""

from __future__ import annotations

from typing import Any

from hybridlab.views.caches import caches_info, caches_plot, caches_table


def row(path: str, form: str, predicted: list[int], **more: Any) -> dict[str, Any]:
    told = {"path": path, "use": path, "form": form, "grows_bytes": 0.0, "full_at": None}
    return {**told, "measured_bytes": [], "predicted_bytes": predicted, "no_step": "", **more}


FOUND: dict[str, Any] = {
    "positions": [1, 64],
    "predicted_bytes": [150, 50 * 1024],
    "measured_bytes": [150, None],
    "components": [
        row("kv", "grows", [100, 6400], grows_bytes=100.0, measured_bytes=[100, None]),
        row("ssm", "constant", [50, 50], measured_bytes=[50, None]),
        row("mlp", "nothing", [0, 0], measured_bytes=[0, None]),
        row("head", "nothing", [0, 0], no_step="reads all at once"),
    ],
}


def test_all_caches_come_first_and_then_each_form() -> None:
    info = caches_info(FOUND)
    assert info.title == "50 KiB of caches after 64 positions; each one more adds 100 B (predicted)"
    whole, grows, constant = info.series
    assert whole.measured_bytes == (150, None) and grows.measured_bytes == (100, None)
    assert grows.predicted_bytes == (100, 6400) and constant.predicted_bytes == (50, 50)
    plot = caches_plot(info)
    assert [trace.name.rpartition(", ")[2] for trace in plot.data] == ["predicted", "measured"] * 3
    assert list(plot.data[1].x) == [1]
    assert {"32 B", "8 KiB"} <= set(plot.layout.yaxis.ticktext)


def test_one_form_is_one_line_and_what_is_not_measured_has_no_points() -> None:
    alone = {**FOUND, "components": [row("ssm", "constant", [50, 50])], "measured_bytes": []}
    info = caches_info({**alone, "predicted_bytes": [50, 50]})
    assert info.title == "50 B of caches after 64 positions, and no more after that (predicted)"
    assert [trace.name for trace in caches_plot(info).data] == ["all caches, predicted"]


def test_the_table_has_what_is_kept_and_what_has_no_step_form() -> None:
    table = caches_table(FOUND)
    assert list(table["component"]) == ["kv", "ssm", "head"]
    assert table["cache"].iloc[2] == "reads all at once"
    assert table["64 predicted (bytes)"].iloc[0] == 6400
    assert table["64 measured (bytes)"].isna().all()
