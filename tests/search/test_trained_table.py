"""Tables of trained hybrids: read row by row, written whole, searched by every sampler, and wrong in every way."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hybridlab.errors import RunError, SpecError
from hybridlab.search import known
from hybridlab.search.landscape import signs
from hybridlab.search.opening import landscape_of
from hybridlab.search.pareto import hypervolume
from hybridlab.search.samplers import make_sampler
from hybridlab.search.spec import search_of
from hybridlab.search.study import completed, open_study, search
from hybridlab.search.trained_table import (
    COSTS,
    METRIC,
    TableLandscape,
    TrainedTable,
    read_table,
    write_table,
)

TOP = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that trained the table."""
    monkeypatch.syspath_prepend(str(TOP / "benchmarks"))
    return importlib.import_module("trained_table")


def small() -> TrainedTable:
    """A table of four designs with figures that a person can follow."""
    choices = [
        {"name": "width", "values": [8, 16], "group": ""},
        {"name": "mix", "values": ["a", "b"], "group": "use"},
    ]
    accuracies = {(8, "a"): 0.2, (8, "b"): 0.6, (16, "a"): 0.9, (16, "b"): 0.6}
    rows = [
        {
            "width": width,
            "mix": mix,
            "task": "mqar",
            "seed": seed,
            METRIC: accuracy + 0.02 * (seed - 1),
            "architecture": "",
            **{f"predicted_{cost}": width * 10 + (mix == "b") for cost in COSTS},
        }
        for (width, mix), accuracy in accuracies.items()
        for seed in range(3)
    ]
    about = {
        "choices": choices,
        "training": {"mqar": {"steps": 1}},
        "seeds": [0, 1, 2],
        "own_design": {"width": 8, "mix": "a"},
    }
    return TrainedTable(pd.DataFrame(rows).sample(frac=1, random_state=0), about)


def test_a_small_table_is_read_row_by_row() -> None:
    landscape = TableLandscape(small(), "mqar", (METRIC, "params"))
    rows = landscape.space.everything()
    designs = [landscape.space.design(row) for row in rows]
    assert [tuple(one.values()) for one in designs] == [(8, "a"), (8, "b"), (16, "a"), (16, "b")]
    told = np.array([landscape.measure(row, seed).values for seed, row in enumerate(rows)])
    np.testing.assert_allclose(told, [[0.2, 80], [0.6, 81], [0.9, 160], [0.6, 161]])
    prices = landscape.prices(rows)
    assert np.isnan(prices[:, 0]).all() and (prices[:, 1] == told[:, 1]).all()
    np.testing.assert_allclose(landscape.true_front(), [[0.9, 160], [0.6, 81], [0.2, 80]])
    limited = TableLandscape(small(), "mqar", (METRIC, "params"), limits={"params": 100})
    volume = limited.exact()[1]
    assert volume == pytest.approx((0.6 - 0.2) * (161 - 81))
    assert limited.unlimited().exact()[1] > volume


def test_a_design_that_diverged_has_no_values() -> None:
    table = small()
    bad = (table.frame["width"] == 16) & (table.frame["mix"] == "a") & (table.frame["seed"] == 1)
    table.frame.loc[bad, METRIC] = np.nan
    landscape = TableLandscape(table, "mqar", (METRIC, "params"))
    row = landscape.space.codes([{"width": 16, "mix": "a"}])[0]
    assert "diverged" in landscape.measure(row, 0).reason
    assert landscape.true_front()[0, 0] == pytest.approx(0.6)
    assert landscape.exact()[1] > 0


def test_a_file_that_leaves_out_a_training_is_refused(tmp_path: Path) -> None:
    table, file = small(), tmp_path / "table.parquet"
    write_table(table.frame, table.about, file)
    again = read_table(file)
    pd.testing.assert_frame_equal(
        again.frame, table.frame.reset_index(drop=True), check_dtype=False
    )
    write_table(table.frame.iloc[1:], table.about, file)
    with pytest.raises(RunError, match="every training once"):
        read_table(file)
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    with pytest.raises(RunError, match="cannot be read"):
        read_table(file)
    with pytest.raises(RunError, match="cannot be read"):
        read_table(tmp_path / "none.parquet")


def test_the_script_trains_writes_and_goes_on(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = script.designs()[0]
    short = script.trained((design, "mqar", 1), steps=2)
    again = script.trained((design, "mqar", 1), steps=2)
    assert short["steps"] == 2 and 0 <= short[METRIC] <= 1 and short["train_loss"] > 0
    assert [short[k] for k in (METRIC, "train_loss")] == [again[k] for k in (METRIC, "train_loss")]
    rows = tmp_path / "rows.jsonl"
    script.append(short, rows)
    with rows.open("a") as file:
        file.write('{"design": {"wid')  # a kill in the middle of a line
    script.append({**short, "seed": 2}, rows)
    assert [row["seed"] for row in script.read(rows)] == [1, 2]
    changed = {**script.TASKS, "mqar": {**script.TASKS["mqar"], "steps": 7}}
    monkeypatch.setattr(script, "TASKS", changed)
    assert script.read(rows) == []  # of other settings


def test_the_script_writes_a_table_that_opens(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        script, "SEARCH", {"width": [16], "third": {"use": ["min_gru", "short_conv"]}}
    )
    tasks = {task: {**settings, "steps": 2} for task, settings in script.TASKS.items()}
    monkeypatch.setattr(script, "TASKS", tasks)
    rows, output = tmp_path / "rows.jsonl", tmp_path / "table.parquet"
    with pytest.raises(SystemExit, match="train on"):
        script.finish(rows, output)
    for design in script.designs():
        for task in tasks:
            script.append({**script.trained((design, task, 1)), "commit": "abc"}, rows)
    script.append(
        {**script.trained((design, "mqar", 0)), "commit": "abc"}, rows
    )  # of a seed under way
    script.finish(rows, output)
    table = read_table(output)
    kept = {script.key(one["design"], one["task"], one["seed"]) for one in script.lines_of(output)}
    assert len(kept) == 4 and kept < {
        script.key(one["design"], one["task"], one["seed"]) for one in script.read(rows)
    }
    assert table.seeds == (1,) and table.space.size == 2 and len(table.frame) == 4
    landscape = TableLandscape(table, "digits_sequence", (METRIC, "params", "state_bytes"))
    for row in landscape.space.everything():
        design = landscape.space.design(row)
        architecture = landscape.architecture(design)
        assert architecture == script.marked().architecture_of(design)
        (told,) = (
            one
            for one in script.read(rows)
            if one["design"] == design and one["task"] == "digits_sequence"
        )
        accuracy, params, state_bytes = landscape.measure(row, 0).values
        assert accuracy == told[METRIC] and params == told["weights"] and state_bytes > 0
    assert landscape.hand_designs()[0]["width"] == 16


def test_ours_tries_no_design_twice_and_ends_with_all_of_them() -> None:
    landscape = TableLandscape(small(), "mqar", (METRIC, "params"))
    study = open_study(landscape, make_sampler("cost_aware", landscape))
    search(study, landscape, 4)
    assert len({json.dumps(trial.params) for trial in study.trials}) == 4
    points = np.array([trial.values for trial in completed(study)]) * signs(landscape)
    reference, exact = landscape.exact()
    assert hypervolume(points, reference) == pytest.approx(exact)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trained_table: {task: mqr}\n", "mqr"),
        ("trained_table: {}\nclosed_form: {}\n", "one of"),
        ("trained_table: {}\ntask: mqar\n", "table of trained hybrids"),
        ("trained_table: {}\nobjectives: [val_accuracy, step_ms]\n", "is not an objective"),
        ("trained_table: {}\nobjectives: [val_accuracy]\n", "nothing to trade"),
        ("trained_table: {}\nlimits: {peak_bytes: 9}\n", "no design keeps this limit"),
        ("trained_table: {}\nlimits: {params: 1e9}\n", "is not an objective"),
    ],
)
def test_what_is_wrong_is_told(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "shipped_table", small)
    with pytest.raises(SpecError) as caught:
        landscape_of(search_of("name: t\n" + text))
    assert words in str(caught.value)
