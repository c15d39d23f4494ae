"""Two files that a user might bring, from scikit-learn's own: a table of classes, and one of numbers."""

from __future__ import annotations

import functools
import gzip
import importlib.util
from pathlib import Path

from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.own import keeping

_PATIENTS = (*("age", "sex", "bmi", "pressure"), *(f"s{i}" for i in range(1, 7)), "progression")


@functools.cache
def wines() -> bytes:
    """Return the table of wines as it is kept: 178 rows of 13 measures, and which of three growers.

    Raises:
        TaskError: scikit-learn's files are missing.
    """
    return keeping.pack(_file("wine_data.csv").read_bytes().split(b"\n", 1)[1], "wine.csv")


@functools.cache
def patients() -> bytes:
    """Return the table of diabetes patients as it is kept: 442 rows of ten measures, and how far the disease went.

    https://doi.org/10.1214/009053604000000067

    Raises:
        TaskError: scikit-learn's files are missing.
    """
    names = ("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz")
    measures, answers = (gzip.decompress(_file(name).read_bytes()).splitlines() for name in names)
    rows = (b",".join([*m.split(), a.strip()]) for m, a in zip(measures, answers, strict=True))
    changes = {"label": _PATIENTS[-1], "answers": "numbers", "unit": "points"}
    table = b"\n".join([",".join(_PATIENTS).encode(), *rows])
    return keeping.pack(table, "diabetes.csv", changes)


def _file(name: str) -> Path:
    package = importlib.util.find_spec("sklearn")
    for place in (package.submodule_search_locations if package else None) or ():
        file = Path(place) / "datasets" / "data" / name
        if file.is_file():
            return file
    raise TaskError(
        Problem("task_params.data", "the example is missing", fix="add a file of your own")
    )
