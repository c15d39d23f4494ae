"""Reading a run's folder: the log in pieces, and the archive without what must not travel."""

import io
import json
import os
import zipfile

import pytest

from hybridlab import runs
from hybridlab.errors import RunError
from hybridlab.runs.home import run_folder
from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point


@pytest.fixture
def run(home):
    store = runs.open_store()
    run = store.create("train", "<b>näme</b>", {"steps": 3})
    run_folder(run.id).mkdir(parents=True)
    return run


def test_a_log_is_read_in_pieces_that_join_without_loss(run):
    text = "".join(f"line {number} é 模 🧪\n" for number in range(50))
    (run_folder(run.id) / "log.txt").write_text(text, encoding="utf-8")
    read, after = "", 0
    for _ in range(1000):
        part = runs.read_log(run.id, after, most_bytes=7)
        if not part.text:
            break
        read, after = read + part.text, part.next
    assert read == text
    assert runs.read_log(run.id, after).next == after == len(text.encode())
    assert runs.read_log(run.id, -12).text.endswith("🧪\n")


def test_a_log_that_is_not_text_or_not_there(run):
    assert runs.read_log(run.id).text == ""
    (run_folder(run.id) / "log.txt").write_bytes(b"\xff\xfe bad \x80")
    assert runs.read_log(run.id).text == "\ufffd\ufffd bad \ufffd"
    assert runs.read_log(run.id, after=10_000).text == ""


def test_an_archive_has_the_record_the_metrics_and_the_files(run, tmp_path):
    store = runs.open_store()
    store.leases.claim(run.id, "secret-token", pid=1, birth="b")
    store.leases.beat(Lease(run.id, "secret-token"), [Point(1, "loss", 0.5, 0.1)])
    folder = run_folder(run.id)
    (folder / "checkpoints" / "step-1").mkdir(parents=True)
    (folder / "checkpoints" / "step-1" / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "log.txt").write_text("hello")
    (tmp_path / "secret").write_text("not yours")
    (folder / "link.txt").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    for name in ("evil.pkl", "old.PT", ".draft", "a.npy"):
        (folder / name).write_text("x")
    for target in (io.BytesIO(), tmp_path / "run.zip"):
        runs.archive(run.id, target)
        with zipfile.ZipFile(target) as bundle:
            assert bundle.testzip() is None
            assert sorted(bundle.namelist()) == [
                f"{run.id}/checkpoints/step-1/model.safetensors",
                f"{run.id}/log.txt",
                f"{run.id}/metrics.csv",
                f"{run.id}/run.json",
            ]
            record = bundle.read(f"{run.id}/run.json").decode()
            assert bundle.read(f"{run.id}/metrics.csv").splitlines()[1] == b"1,loss,0.5,0.1"
        assert json.loads(record)["name"] == "<b>näme</b>"
        assert "secret-token" not in record


def test_an_archive_of_nothing(home):
    with pytest.raises(RunError, match="no such run"):
        runs.archive("0" * 12, io.BytesIO())
