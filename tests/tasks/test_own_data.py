"""Files of one's own: how they are taken is guessed and can be corrected, and no sample is in two splits."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.errors import StoreError, TaskError
from hybridlab.runs.home import home_id
from hybridlab.runs.store import open_store
from hybridlab.tasks.own import keeping
from hybridlab.tasks.registry import fit, task
from hybridlab.tasks.splits import TEN, same_samples, split_by_group

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("HYBRIDLAB_HOME", str(folder))
    return folder


def table(rows: int = 60, **columns: Any) -> bytes:
    """Write a CSV with an id, two measures and a species, or the columns given."""
    made = columns or {
        "id": range(rows),
        "width": RNG.normal(size=rows).round(4),
        "height": RNG.normal(size=rows).round(4),
        "species": [("oak", "ash", "elm")[i % 3] for i in range(rows)],
    }
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(made)
    writer.writerows(zip(*made.values(), strict=True))
    return out.getvalue().encode()


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_a_table_is_understood_and_told_as_plain_json() -> None:
    guess = keeping.look(table(), "trees.csv").as_dict()
    assert json.loads(json.dumps(guess)) == json.loads(json.dumps(guess))
    assert guess["schema"] == {
        "form": "rows",
        "label": "species",
        "inputs": ["width", "height"],
        "shape": "series",
        "answers": "classes",
        "unit": "",
    }
    assert guess["rows"] == 60 and guess["notes"] == ("Left out: id.",)
    assert guess["columns"][3] == {
        "name": "species",
        "kind": "text",
        "different": 3,
        "missing": 0,
        "answers": "classes",
        "example": "oak",
    }
    assert [column["answers"] for column in guess["columns"][1:3]] == ["numbers", "numbers"]


def test_a_person_corrects_the_guess_and_it_becomes_another_data_set() -> None:
    content = table()
    first = keeping.add(content, "trees.csv")
    second = keeping.add(content, "trees.csv", {"inputs": ["height"]})
    assert first.id != second.id and second.shape == (1, 1)
    assert keeping.add(content, "trees.csv").id == first.id
    assert [one.id for one in keeping.kept()] == sorted([first.id, second.id])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": "spezies"}, "label: is not in the file"),
        ({"inputs": ["width", "depth"]}, "'depth'"),
        ({"inputs": ["species"], "label": "id"}, "holds text"),
        ({"label": "width"}, "the answer would be shown"),
        ({"inputs": []}, "names nothing"),
        ({"inputs": 3}, "not a list"),
        ({"form": "arrays"}, "cannot be read as arrays"),
        ({"form": "pickle"}, "text, rows or arrays"),
        ({"lable": "x"}, "did you mean 'label'"),
        ({"shape": "cube"}, "shape"),
        ({"answers": "ranks"}, "answers"),
        ({"answers": "numbers"}, "answers: 'species' holds text"),
        ({"unit": "m"}, "unit: is of numbers"),
        ({"unit": "<b>m</b>"}, "unit"),
        ({"label": "width", "inputs": ["height"], "answers": "classes"}, "does not hold classes"),
    ],
)
def test_corrections_that_do_not_fit_are_sentences(changes: dict[str, Any], words: str) -> None:
    changes = {"inputs": ["width", "height"], **changes} if "label" in changes else changes
    with pytest.raises(TaskError) as caught:
        keeping.add(table(), "trees.csv", changes)
    assert words in str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_quotes_and_marks_of_order_are_read(separator: str) -> None:
    lines = [f'"{"a " * (i % 2) or "b"}"{separator}{i % 7}{separator}{i / 3}' for i in range(40)]
    content = "\ufeff" + "\r\n".join(lines)
    guess = keeping.look(content.encode(), "x.csv").as_dict()
    assert guess["schema"]["label"] == "column_1" and guess["rows"] == 40
    assert "numbered" in guess["notes"][0]


def test_rows_with_missing_values_are_left_out_and_counted() -> None:
    width = [str(i / 7) if i % 10 else ("", "NA", "nan", "?")[i // 10 % 4] for i in range(50)]
    content = table(width=width, kind=["a" if i % 2 else "b" for i in range(50)])
    made = keeping.add(content, "x.csv")
    assert sum(made.sizes.values()) == 45
    assert "5 rows with missing values are left out." in made.notes


def test_csv_parquet_and_npz_of_the_same_data_give_the_same_batches() -> None:
    x, y = RNG.normal(size=(80, 4)).astype(np.float32), np.arange(80) % 3
    columns = {f"c{i}": x[:, i].astype(float) for i in range(4)}
    ids = [
        keeping.add(table(**columns, label=y), "x.csv").id,
        keeping.add(parquet(**columns, label=y), "x.parquet").id,
    ]
    batches = [task("own_data", data=one).train_batch(0, 16, 0) for one in ids]
    assert torch.equal(batches[0].inputs, batches[1].inputs)
    arrays = keeping.arrays(keeping.add(npz(X=x, y=y), "x.npz").id)
    np.testing.assert_array_equal(arrays["inputs"], keeping.arrays(ids[0])["inputs"])
    np.testing.assert_array_equal(arrays["labels"], keeping.arrays(ids[0])["labels"])


@pytest.mark.parametrize(
    ("x", "changes", "kind", "shape"),
    [
        ((50, 12), {}, "series", (12, 1)),
        ((50, 12, 3), {}, "series", (12, 3)),
        ((50, 12, 8), {"shape": "image"}, "image", (1, 12, 8)),
        ((50, 3, 12, 8), {}, "image", (3, 12, 8)),
        ((50, 12, 8, 3), {}, "image", (3, 12, 8)),
    ],
)
def test_arrays_of_every_shape_become_a_task_that_fits(
    x: tuple[int, ...], changes: dict[str, Any], kind: str, shape: tuple[int, ...]
) -> None:
    content = npz(X=RNG.normal(size=x), y=np.array(["no", "yes"])[np.arange(50) % 2])
    made = keeping.add(content, "x.npz", changes)
    assert (made.schema.shape, made.shape, made.classes) == (kind, shape, ("no", "yes"))
    chosen = task("own_data", data=made.id)
    batch = chosen.train_batch(0, 4, 0)
    assert tuple(batch.inputs.shape) == (4, *shape)
    fitted = fit(loads("name: x\nwidth: 8\nnodes:\n  - {use: attention, heads: 2}\n"), chosen)
    output = build(fitted, chosen.input_type(), seed=0)(batch.inputs)
    assert output.shape == (4, 2) and chosen.loss(output, batch).isfinite()


def test_pictures_whose_last_axis_is_the_channel_are_turned() -> None:
    x = RNG.normal(size=(50, 6, 5, 3)).astype(np.float32)
    kept = keeping.add(npz(X=x, y=np.arange(50) % 2), "x.npz")
    np.testing.assert_array_equal(keeping.arrays(kept.id)["inputs"], np.moveaxis(x, 3, 1))


def test_equal_rows_never_cross_splits_even_with_other_labels() -> None:
    x = RNG.integers(0, 3, (400, 3)).astype(float)  # 27 different rows
    made = keeping.add(npz(X=x, y=RNG.integers(0, 2, 400)), "x.npz")
    arrays = keeping.arrays(made.id)
    seen = [
        {row.tobytes() for row in arrays["inputs"][arrays["split"] == number]}
        for number in range(3)
    ]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert all(seen) and "equal samples are in one split" in made.notes[-1]


def test_splits_are_seven_one_and_two_tenths_of_each_class_and_fixed() -> None:
    made = keeping.add(table(600), "x.csv")
    assert made.sizes == {"train": 420, "val": 60, "test": 120}
    arrays = keeping.arrays(made.id)
    for label in range(3):
        counts = np.bincount(arrays["split"][arrays["labels"] == label])
        assert counts.tolist() == pytest.approx([140, 20, 40], abs=2)


def test_every_class_is_trained_on_however_rare() -> None:
    groups, labels = np.arange(40), np.array([0] * 20 + [1] * 19 + [2])
    for seed in range(20):
        parts = split_by_group(groups, labels, TEN, seed)
        assert set(labels[parts["train"]]) == {0, 1, 2}
        assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(40))


def test_samples_are_the_same_where_zeros_differ_in_sign() -> None:
    rows = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    groups = same_samples(rows)
    assert groups[0] == groups[1] != groups[2]


def test_scale_is_that_of_the_training_rows_alone() -> None:
    made = keeping.add(table(200), "x.csv")
    held, seen = keeping.arrays(made.id), task("own_data", data=made.id)
    train = held["inputs"][held["split"] == 0][:, :, 0].astype(np.float64)
    wanted = (held["inputs"][held["split"] == 2][:, :, 0] - train.mean(0)) / train.std(0)
    (batch,) = seen.evaluation("test")
    np.testing.assert_allclose(batch.inputs[:, :, 0], wanted, atol=1e-5)


def test_a_column_that_never_changes_does_no_harm() -> None:
    content = table(a=[1] * 40, b=np.arange(40) / 3, y=["p", "q"] * 20)
    made = keeping.add(content, "x.csv", {"label": "y", "inputs": ["a", "b"]})
    assert task("own_data", data=made.id).train_batch(0, 8, 0).inputs.isfinite().all()


def test_numbers_that_are_labels_keep_their_order() -> None:
    made = keeping.add(npz(X=RNG.normal(size=(60, 2)), y=np.arange(60) % 12), "x.npz")
    assert made.classes == tuple(map(str, range(12)))


def test_text_is_cut_in_three_pieces_that_do_not_meet() -> None:
    content = bytes(RNG.integers(97, 123, 5_000).astype(np.uint8))
    made = keeping.add(content, "letters.txt")
    assert made.task == "own_text" and made.sizes == {"train": 4_000, "val": 500, "test": 500}
    chosen = task("own_text", data=made.id, length=32)
    for split, part in (("val", content[4_000:4_500]), ("test", content[4_500:])):
        rows = torch.cat([batch.inputs for batch in chosen.evaluation(split)]).numpy()
        pieces = [row.astype(np.uint8).tobytes() for row in rows]
        assert all(piece in part for piece in pieces) and len(set(pieces)) == len(pieces) == 15
    batch = chosen.train_batch(0, 64, 0)
    assert all(r.numpy().astype(np.uint8).tobytes() in content[:4_000] for r in batch.targets)
    assert chosen.baselines()["unigram"] == pytest.approx(np.log2(26), abs=0.1)


def test_the_wrong_task_for_the_data_is_told() -> None:
    text, rows = keeping.add(b"word " * 600, "x.txt"), keeping.add(table(), "x.csv")
    with pytest.raises(TaskError, match="own_text"):
        task("own_data", data=text.id).input_node()
    with pytest.raises(TaskError, match="own_data"):
        task("own_text", data=rows.id).train_batch(0, 1, 0)
    with pytest.raises(TaskError, match="more than the val part"):
        list(task("own_text", data=text.id, length=400).evaluation("val"))


@pytest.mark.parametrize(
    "name", ["d0123456789abcdef", "0123456789abcdef", "../../etc/passwd", "", "EXAMPLE", "a" * 999]
)
def test_data_that_is_not_there_is_a_sentence(name: str) -> None:
    for which in ("own_data", "own_text"):
        with pytest.raises(TaskError, match="hybridlab data list"):
            task(which, data=name).train_batch(0, 1, 0)


def test_data_that_was_changed_on_disk_is_not_used(home: Path) -> None:
    made = keeping.add(table(), "x.csv")
    (path,) = (home / "data").glob("*.safetensors")
    blob = bytearray(path.read_bytes())
    blob[-5] ^= 1
    path.write_bytes(bytes(blob))
    with pytest.raises(TaskError, match="damaged"):
        task("own_data", data=made.id).train_batch(0, 1, 0)
    assert keeping.kept() == []


@pytest.mark.parametrize("several", [False, True])
def test_data_that_a_run_waits_for_is_not_deleted(home: Path, several: bool) -> None:
    made, other = keeping.add(table(), "x.csv"), keeping.add(b"word " * 600, "x.txt")
    settings = {"task": "own_data", "task_params": {"data": made.id}}
    training = {"task": "mqar", "tasks": {"of": [{"task": "mqar"}, settings]}}
    spec = {"training": training if several else settings}
    run = open_store().create("train", "mine", spec, threads=1, home=home_id())
    with pytest.raises(TaskError, match=f"a run learns from it: mine .{run.id}"):
        keeping.remove(made.id)
    assert keeping.remove(other.id) == []
    open_store().request_cancel(run.id)
    assert [one.id for one in keeping.remove(made.id)] == [run.id]
    assert keeping.kept() == []


def test_a_folder_that_cannot_be_written_is_told(home: Path) -> None:
    home.mkdir()
    (home / "data").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        keeping.add(table(), "x.csv")


def test_it_trains_in_a_process_that_only_knows_the_id(home: Path) -> None:
    made = keeping.add(table(), "trees.csv")
    keeping._read.cache_clear()
    keeping._found.cache_clear()
    assert task("own_data", data=made.id).train_batch(3, 8, 1).inputs.shape == (8, 2, 1)
    assert [path.name for path in (home / "data").iterdir()] == [f"{made.id}.safetensors"]
