"""Files that are damaged or mean harm: one sentence each, no pickle is ever opened, and no memory is taken for them."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybridlab.errors import TaskError
from hybridlab.tasks.own import keeping, reading


class Opened(Exception):  # noqa: N818 - it is what a pickle would do
    """A pickle was opened."""


class Trap:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return _raise, ("opened",)


def _raise(text: str) -> None:
    raise Opened(text)


def _zip(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return out.getvalue()


def _npy(header: str, body: bytes = b"") -> bytes:
    padded = header.encode().ljust(118, b" ") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + body


def _objects() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Trap()], dtype=object), allow_pickle=True)
    return _zip({"X.npy": out.getvalue()})


def _bomb() -> bytes:
    return _zip({f"X{i}.npy": bytes(60_000_000) for i in range(3)})


def _lying_zip() -> bytes:
    """A zip whose directory says that a member is small, while it unpacks to much."""
    content = bytearray(_zip({"X.npy": bytes(30_000_000)}))
    size = struct.pack("<L", 30_000_000)
    while (at := content.find(size)) >= 0:
        content[at : at + 4] = struct.pack("<L", 100)
    return bytes(content)


def _parquet(rows: int, columns: int = 1) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({f"c{i}": np.zeros(rows, dtype=np.int8) for i in range(columns)}), out)
    return out.getvalue()


def _nested() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [[1, 2]] * 30}), out)
    return out.getvalue()


FLOATS = "'descr': '<f8', 'fortran_order': False"
HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("x.csv", b"", "is empty"),
    "blanks": ("x.csv", b" \n\n ", "is empty"),
    "bytes": ("x.csv", bytes(range(256)) * 20, "not text in UTF-8"),
    "zeros": ("x.txt", b"\x00" * 4_000, "zero bytes"),
    "a pickle": ("x.npz", pickle.dumps(Trap()), "not text in UTF-8"),
    "a pickle called text": ("x.txt", pickle.dumps(Trap(), protocol=0), "too short a text"),
    "objects in npz": ("x.npz", _objects(), "does not hold numbers or text"),
    "records in npz": (
        "x.npz",
        _zip({"X.npy": _npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}")}),
        "does not hold numbers or text",
    ),
    "a zip bomb": ("x.npz", _bomb(), "unpacks to too much"),
    "a lying zip": ("x.npz", _lying_zip(), "cannot be read as npz"),
    "a huge shape": (
        "x.npz",
        _zip({"X.npy": _npy(f"{{{FLOATS}, 'shape': (10000000000000, 8)}}")}),
        "shorter than it says",
    ),
    "a negative shape": (
        "x.npz",
        _zip({"X.npy": _npy(f"{{{FLOATS}, 'shape': (-1, -5)}}", bytes(80))}),
        "npz",
    ),
    "code in a header": (
        "x.npz",
        _zip({"X.npy": _npy("{'descr': __import__('os').getcwd(), 'shape': ()}")}),
        "cannot be read as npz",
    ),
    "a deep header": ("x.npz", _zip({"X.npy": _npy("(" * 100)}), "cannot be read as npz"),
    "a cut zip": ("x.npz", _zip({"X.npy": bytes(1000)}, zipfile.ZIP_STORED)[:200], "npz"),
    "many members": ("x.npz", _zip({f"{i}.npy": b"" for i in range(100)}), "too many arrays"),
    "no arrays": ("x.npz", _zip({"a/": b""}), "holds no arrays"),
    "text in a zip": ("x.npz", _zip({"readme.txt": b"hello"}), "cannot be read as npz"),
    "no labels": (
        "x.npz",
        _zip({"X.npy": _npy(f"{{{FLOATS}, 'shape': (2, 2)}}", bytes(32))}),
        "samples and their labels",
    ),
    "parquet's name": ("x.parquet", b"PAR1" + bytes(40), "cannot be read as Parquet"),
    "cut parquet": ("x.parquet", _parquet(1000)[:-30], "cannot be read as Parquet"),
    "many rows in little parquet": ("x.parquet", _parquet(1_000_001), "too many rows"),
    "many values in little parquet": ("x.parquet", _parquet(500_000, 41), "too many values"),
    "nested parquet": ("x.parquet", _nested(), "no rows of numbers"),
    "ragged rows": ("x.csv", b"a,b\n1,2\n3\n", "row 3 is not as long"),
    "names twice": ("x.csv", b"a,a\n1,2\n", "names columns twice"),
    "a header alone": ("x.csv", b"a,b,c\n", "no rows"),
    "an open quote": ("x.csv", b'a,b\n1,"2\n' + b"x" * 200_000, "is not a table"),
    "wide rows": ("x.csv", b",".join(b"1" for _ in range(5_000)), "too many columns"),
    "only text": ("x.csv", b"a,b\n" + b"x,y\n" * 40, "no column of numbers"),
    "one class": ("x.csv", b"a,y\n" + b"1,p\n2,p\n" * 20, "does not hold classes"),
    "one number": (
        "x.csv",
        b"a,y\n" + b"".join(f"{i},0.37\n".encode() for i in range(90)),
        "the same number everywhere",
    ),
    "few rows": ("x.csv", b"a,y\n1,p\n2,q\n", "too few complete samples"),
    "one row again and again": (
        "x.csv",
        b"a,y\n" + b"1,p\n1,q\n" * 20,
        "too few different samples",
    ),
    "numbers past all bounds": (
        "x.csv",
        b"a,y\n" + b"1e39,p\n1e39,q\n" * 20,
        "too few complete samples",
    ),
    "a short text": ("x.txt", b"hello", "too short a text"),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    yield tmp_path
    assert not (tmp_path / "data").exists(), "something of a refused file was kept"


@pytest.mark.parametrize("what", HOSTILE)
def test_it_is_refused_in_a_sentence(what: str) -> None:
    name, content, words = HOSTILE[what]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(TaskError) as caught:
        keeping.add(content, name)
    assert words in str(caught.value), str(caught.value)
    assert len(str(caught.value)) < 500 and "Traceback" not in str(caught.value)
    assert time.process_time() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kilobytes"


def test_too_large_a_file_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 1_000)
    with pytest.raises(TaskError, match="is too large"):
        keeping.add(b"a" * 1_001, "x.txt")


def test_names_with_folders_do_not_lead_anywhere(home: Path, tmp_path: Path) -> None:
    blob = keeping.pack(b"word " * 600, "../../..\\evil\\name.txt")
    assert keeping.described(blob).name == "name.txt"


@pytest.mark.parametrize("seed", range(30))
def test_noise_over_good_files_never_surprises(seed: int) -> None:
    rng = np.random.default_rng(seed)
    out = io.BytesIO()
    np.savez_compressed(out, X=rng.normal(size=(60, 3)), y=np.arange(60) % 2)
    good = [out.getvalue(), b"a,y\n" + b"1,p\n2,q\n3,p\n" * 20, _parquet(50, 3)][seed % 3]
    content = bytearray(good)
    for at in rng.integers(0, len(content), 8):
        content[at] = rng.integers(0, 256)
    try:
        keeping.pack(bytes(content), ("x.npz", "x.csv", "x.parquet")[seed % 3])
    except TaskError as error:
        assert error.problems
