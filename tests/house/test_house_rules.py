"""The rules of the house that no linter knows: lengths, names, and who may import what."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "hybridlab"
FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((TOP / folder).rglob("*.py"))]
    return [path for path in found if "_vendor" not in path.parts]


def shown(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Return every module that a file imports, inside functions too, but not for type checking alone."""
    return frozenset(_imports(parsed(path)))


def _imports(tree: ast.Module) -> Iterator[str]:
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def importers(package: str, files: list[Path]) -> list[str]:
    return [
        shown(path)
        for path in files
        if any(name.split(".")[0] == package for name in imports(path))
    ]


def test_there_is_a_house_to_look_at() -> None:
    assert len(sources("hybridlab")) > 50
    assert len(sources("pages")) >= 3


@pytest.mark.parametrize(
    ("folders", "most"), [(("hybridlab", "tests", "benchmarks"), 400), (("pages",), 150)]
)
def test_a_file_is_read_in_one_sitting(folders: tuple[str, ...], most: int) -> None:
    lengths = {shown(p): len(p.read_text(encoding="utf-8").splitlines()) for p in sources(*folders)}
    long = {name: length for name, length in lengths.items() if length > most}
    assert not long, f"split these by what they are about (at most {most} lines): {long}"


def test_no_file_is_named_for_what_did_not_fit_elsewhere() -> None:
    bad = [
        shown(path)
        for path in sources("hybridlab", "pages", "tests", "benchmarks")
        if FORBIDDEN_NAMES & {part.lower() for part in (*path.relative_to(TOP).parts, path.stem)}
    ]
    assert not bad, f"name them after what they hold: {bad}"


@pytest.mark.parametrize(
    ("package", "room"), [("streamlit", "ui"), ("plotly", "views"), ("optuna", "search")]
)
def test_only_one_room_knows_a_package(package: str, room: str) -> None:
    files = [path for path in sources("hybridlab") if path.relative_to(PACKAGE).parts[0] != room]
    assert not importers(package, files), f"{package} belongs into hybridlab/{room}"


def test_the_pages_arrange_and_do_not_draw_or_compute() -> None:
    pages = [*sources("pages"), TOP / "app.py"]
    for package in ("torch", "plotly", "optuna", "sqlalchemy"):
        assert not importers(package, pages)


def test_pages_run_to_their_end() -> None:
    """Where a page is stopped, Streamlit keeps the fragments of the page before, and draws them into this one."""
    bad = []
    for path in [*sources("pages", "hybridlab"), TOP / "app.py"]:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "st.stop":
                bad.append(f"{shown(path)}:{node.lineno}")
    assert not bad, "use if and else instead (docs/decisions/2026-11-23-pages-run-to-their-end.md)"


def test_nothing_is_pickled_evaluated_or_loaded_unsafely() -> None:
    bad = []
    for path in sources("hybridlab", "pages"):
        bad += [shown(path)] * any(
            name in ("pickle", "dill", "shelve", "marshal") for name in imports(path)
        )
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("eval", "exec", "torch.load", "yaml.load", "np.load", "numpy.load"):
                    bad.append(f"{shown(path)}:{node.lineno} {name}")
    assert not bad


NOT_OVER_TIME = {
    "convolve_directly": "a naive form",
    "_by_taps": "over the taps of a short kernel",
}
"""Functions whose loops may take parts of tensors, and why."""
LOOPS = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)


def _counted(loop: ast.AST) -> set[str]:
    """Return the names that change from one round of a loop to the next because the loop counts or names them."""
    targets: list[ast.AST] = []
    if isinstance(loop, ast.For):
        targets = [loop.target]
    elif isinstance(loop, ast.While):
        targets = [item.target for item in ast.walk(loop) if isinstance(item, ast.AugAssign)]
    else:
        targets = [one.target for one in getattr(loop, "generators", [])]
    return {part.id for one in targets for part in ast.walk(one) if isinstance(part, ast.Name)}


def _numbers(place: ast.expr) -> set[str]:
    """Return the names in a place of a tensor, but for those whose attributes are taken, which are no counts."""
    owners = {id(part.value) for part in ast.walk(place) if isinstance(part, ast.Attribute)}
    names = (part for part in ast.walk(place) if isinstance(part, ast.Name))
    return {name.id for name in names if id(name) not in owners}


def _taken_apart(loop: ast.AST) -> Iterator[ast.expr]:
    """Yield what takes a part of a tensor at a place that the loop counts: ``x[:, t]``, ``x.narrow(1, t, 1)``."""
    counted = _counted(loop)
    for item in ast.walk(loop):
        where: list[ast.expr] = []
        if isinstance(item, ast.Subscript) and isinstance(item.ctx, ast.Load):
            where = [item.slice] if isinstance(item.slice, ast.Tuple) else []
        elif isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute):
            parts = ("select", "narrow", "index_select", "take_along_dim")
            where = item.args if item.func.attr in parts else []
        if any(counted & _numbers(one) for one in where):
            assert isinstance(item, ast.expr)
            yield item


def test_no_loop_indexes_time() -> None:
    """Each ``x[:, t]`` in a loop costs a full zero tensor in backward; ``x.unbind(1)`` costs nothing."""
    bad = []
    for path in sources("hybridlab/components"):
        for function in ast.walk(parsed(path)):
            if not isinstance(function, ast.FunctionDef) or function.name == "reference":
                continue
            if function.name in NOT_OVER_TIME:
                continue
            for loop in ast.walk(function):
                if isinstance(loop, LOOPS):
                    found = {(item.lineno, ast.unparse(item)) for item in _taken_apart(loop)}
                    bad += [f"{shown(path)}:{line} {text}" for line, text in sorted(found)]
    assert not bad, f"unbind before the loop: {bad}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("for t in range(n): y.append(x[:, t])", True),
        ("for t, w in enumerate(v): y.append(w * x[:, t - 1 : t, None])", True),
        ("y = [x[:, first : first + 8] for first in range(0, n, 8)]", True),
        ("while t < n:\n    y.append(x[..., t, :])\n    t += 1", True),
        ("for t in range(n): y.append(x.narrow(1, t, 1))", True),
        ("for x_t in x.unbind(1): y.append(x_t[:, None])", False),
        ("for t in range(n): y[:, t] = 0", False),
        ("for t in range(n): y.append(parts[t])", False),
        ("for size in sizes: y = y + x[:, size.first :]", False),
    ],
)
def test_a_loop_over_time_would_be_seen(text: str, found: bool) -> None:
    loops = [node for node in ast.walk(ast.parse(text)) if isinstance(node, LOOPS)]
    assert any(True for loop in loops for _ in _taken_apart(loop)) is found


def test_public_names_have_docstrings_and_no_errors_are_swallowed() -> None:
    silent = re.compile(r"except( Exception| BaseException)?:\s*(#.*)?\n\s*pass\b")
    bad = [
        shown(path)
        for path in sources("hybridlab", "pages")
        if silent.search(path.read_text("utf-8"))
    ]
    assert not bad
