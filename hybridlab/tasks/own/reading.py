"""Reads files that a user brings: text, CSV, Parquet and npz; within limits, and never as pickles."""

from __future__ import annotations

import csv
import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hybridlab.errors import Problem, TaskError
from hybridlab.units import format_bytes

Form = Literal["text", "rows", "arrays"]
MAX_BYTES = 64 * 2**20
MAX_ROWS, MAX_COLUMNS, MAX_VALUES = 1_000_000, 4_096, 20_000_000
_MAX_ARRAYS = 64
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_DELIMITERS = (",", ";", "\t", "|")
_TABLES = (".csv", ".tsv", ".data")
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError),
    *(ValueError, TypeError, SyntaxError, tokenize.TokenError),
)
"""What damaged archives, and headers of arrays in them, make the libraries raise."""


@dataclass(frozen=True)
class Column:
    """A column of a table: numbers (n,) float64 with NaN where one is missing, or texts, empty where one is."""

    numbers: NDArray[np.float64] | None
    texts: tuple[str, ...] = ()

    @property
    def missing(self) -> NDArray[np.bool_]:
        """True in rows without a value (n,)."""
        if self.numbers is not None:
            return np.isnan(self.numbers)
        return np.array([not text for text in self.texts], dtype=bool)

    def names(self) -> list[str]:
        """Return the values as class names, whole numbers without a point (n,)."""
        if self.numbers is None:
            return list(self.texts)
        whole = [float(x).is_integer() for x in self.numbers]
        return [str(int(x)) if w else str(x) for x, w in zip(self.numbers, whole, strict=True)]


@dataclass(frozen=True)
class Content:
    """What a file holds: one of the three."""

    form: Form
    text: bytes = b""
    columns: dict[str, Column] | None = None
    arrays: dict[str, NDArray[Any]] | None = None
    notes: tuple[str, ...] = ()


def read(content: bytes, name: str, form: Form | None = None) -> Content:
    """Return what a file holds; its beginning, then its name say what it is, unless ``form`` does.

    Raises:
        TaskError: it is too large, damaged, or nothing that can be read safely.
    """
    if len(content) > MAX_BYTES:
        raise bad(
            name, "is too large", f"at most {format_bytes(MAX_BYTES)}", format_bytes(len(content))
        )
    if not content.strip():
        raise bad(name, "is empty", "text, CSV, Parquet or npz")
    if content[:4] == b"PK\x03\x04":
        found = Content("arrays", arrays=_npz(content, name))
    elif content[:4] == b"PAR1":
        found = _parquet(content, name)
    else:
        text = _decoded(content, name)
        table = form == "rows" or (form is None and name.lower().endswith(_TABLES))
        found = _csv(text, name) if table else Content("text", text=text.encode())
    if form not in (None, found.form):
        raise bad(
            name,
            f"cannot be read as {form}",
            "another form",
            found.form,
            f"set form to {found.form}",
        )
    return found


def bad(name: str, message: str, expected: str = "", got: str = "", fix: str = "") -> TaskError:
    """Return the error that says what is wrong with a file."""
    return TaskError(Problem(name, message, expected, got, fix))


def _decoded(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad(
            name,
            "is not text in UTF-8, and neither Parquet nor npz",
            "text, CSV, Parquet or npz",
            f"byte {content[error.start]:#04x} at {error.start}",
            "save it as UTF-8",
        ) from None
    if "\x00" in text:
        raise bad(name, "holds zero bytes, so it is not text", "text, CSV, Parquet or npz")
    return text


def _csv(text: str, name: str) -> Content:
    try:
        rows = _rows(text, name)
    except csv.Error as error:
        raise bad(name, "is not a table", "CSV", str(error)) from None
    header = _header(rows[0], name) if _is_header(rows) else None
    names = header or [f"column_{i + 1}" for i in range(len(rows[0]))]
    cells = list(zip(*(rows[1:] if header else rows), strict=True))
    if not cells:
        raise bad(name, "has names of columns and no rows", "rows")
    columns = {key: _column(column) for key, column in zip(names, cells, strict=True)}
    notes = () if header else ("The first row holds values, so columns are numbered.",)
    return Content("rows", columns=columns, notes=notes)


def _rows(text: str, name: str) -> list[list[str]]:
    """Return the cells of a table, all rows equally long, empty lines left out."""
    delimiter = max(_DELIMITERS, key=text[:10_000].split("\n", 1)[0].count)
    rows: list[list[str]] = []
    values = 0
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
        if not any(cell.strip() for cell in row):
            continue
        rows.append([cell.strip() for cell in row])
        values += len(row)
        if len(row) != len(rows[0]):
            raise bad(
                name,
                f"row {len(rows)} is not as long as the first",
                f"{len(rows[0])} cells",
                str(len(row)),
                "put text with separators into double quotes",
            )
        within(name, len(rows), len(row), values)
    return rows


def within(name: str, rows: int, columns: int, values: int) -> None:
    """Raise TaskError where a table or an array is larger than the limits."""
    limits = (
        ("rows", rows, MAX_ROWS),
        ("columns", columns, MAX_COLUMNS),
        ("values", values, MAX_VALUES),
    )
    for what, count, most in limits:
        if count > most:
            raise bad(name, f"has too many {what}", f"at most {most:,}", f"{count:,}")


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row names columns: no cell of it is a number, and some cell below is."""
    if any(_number(cell) is not None for cell in rows[0]):
        return False
    below = rows[1:50]
    return not below or any(_number(cell) is not None for row in below for cell in row)


def _header(cells: Sequence[str], name: str) -> list[str]:
    names = [cell or f"column_{i + 1}" for i, cell in enumerate(cells)]
    twice = sorted({cell for cell in names if names.count(cell) > 1})
    if twice:
        raise bad(name, "names columns twice", "different names", ", ".join(map(repr, twice[:5])))
    return names


def _column(cells: Sequence[str]) -> Column:
    numbers = np.full(len(cells), math.nan)
    for row, cell in enumerate(cells):
        if cell.lower() not in _MISSING:
            number = _number(cell)
            if number is None:
                texts = ("" if cell.lower() in _MISSING else cell for cell in cells)
                return Column(None, tuple(texts))
            numbers[row] = number
    return Column(numbers)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in cell else None


def _parquet(content: bytes, name: str) -> Content:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        rows, width = file.metadata.num_rows, len(file.schema_arrow.names)
        within(name, rows, width, rows * width)
        if len(set(file.schema_arrow.names)) != width:
            raise bad(name, "names columns twice", "different names")
        plain = {item.name: reader for item in file.schema_arrow if (reader := _plain(item.type))}
        parts: dict[str, list[Any]] = {key: [] for key in plain}
        taken = 0
        for batch in file.iter_batches(batch_size=65_536, columns=list(plain)):
            taken += batch.nbytes
            if taken > 8 * MAX_VALUES:
                raise bad(name, "unpacks to too much", f"at most {format_bytes(8 * MAX_VALUES)}")
            for key, reader in plain.items():
                parts[key].extend(reader(batch.column(batch.schema.get_field_index(key))))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise bad(
            name, "cannot be read as Parquet", "a whole Parquet file", first_line(error)
        ) from None
    if not rows or not plain:
        raise bad(name, "has no rows of numbers or text", "rows")
    columns = {
        key: Column(None, tuple(values))
        if plain[key] is _texts
        else Column(np.array(values, dtype=np.float64))
        for key, values in parts.items()
    }
    left = [key for key in file.schema_arrow.names if key not in plain]
    notes = (
        (f"Left out, for they are neither numbers nor text: {', '.join(left[:10])}.",)
        if left
        else ()
    )
    return Content("rows", columns=columns, notes=notes)


def _plain(kind: Any) -> Callable[[Any], list[Any]] | None:
    """Return what reads a Parquet column's values, or None where they are neither numbers nor text."""
    import pyarrow.types as types

    value = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_string(value) or types.is_large_string(value):
        return _texts
    if types.is_integer(value) or types.is_floating(value) or types.is_boolean(value):
        return _floats
    return None


def _texts(column: Any) -> list[Any]:
    return [(text or "").strip() for text in column.to_pylist()]


def _floats(column: Any) -> list[Any]:
    values = (math.nan if value is None else float(value) for value in column.to_pylist())
    return [value if math.isfinite(value) else math.nan for value in values]


def _npz(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as bundle:
            members = [item for item in bundle.infolist() if not item.is_dir()]
            if len(members) > _MAX_ARRAYS:
                raise bad(
                    name, "holds too many arrays", f"at most {_MAX_ARRAYS}", str(len(members))
                )
            size = sum(item.file_size for item in members)
            if size > 8 * MAX_VALUES:
                raise bad(
                    name,
                    "unpacks to too much",
                    f"at most {format_bytes(8 * MAX_VALUES)}",
                    format_bytes(size),
                )
            arrays = {}
            for item in members:
                key = item.filename.removesuffix(".npy")
                with bundle.open(item) as file:
                    arrays[key] = _array(
                        io.BytesIO(file.read(item.file_size)), item.file_size, f"{name}: {key}"
                    )
    except (*_DAMAGED, RecursionError, MemoryError) as error:
        raise bad(
            name, "cannot be read as npz", "a whole file of numpy.savez", first_line(error)
        ) from None
    if not arrays:
        raise bad(name, "holds no arrays", "arrays such as X and y")
    return arrays


def _array(file: io.BytesIO, size: int, name: str) -> NDArray[Any]:
    """Return an array after a look at its header: what it says must fit the bytes that are there."""
    version = npy.read_magic(file)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = header(file)
    if dtype.hasobject or dtype.names is not None or dtype.kind not in "biufUS":
        raise bad(
            name, "does not hold numbers or text", "an array of numbers or text", str(dtype)[:60]
        )
    if math.prod(shape) * dtype.itemsize > size:
        raise bad(
            name, "is shorter than it says", f"{math.prod(shape):,} values", format_bytes(size)
        )
    file.seek(0)
    array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def first_line(error: BaseException) -> str:
    """Return the beginning of what an error says."""
    return (str(error) or type(error).__name__).splitlines()[0][:120]
