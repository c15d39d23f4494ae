"""A timer draws the page again, but never while the page is drawn: clicks below it count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from hybridlab import ui
from hybridlab.ui import again


def _page() -> None:
    import streamlit as st

    from hybridlab.ui.again import page_again

    st.fragment(page_again, run_every=60.0)()
    if st.button("Start"):
        st.session_state.started = st.session_state.get("started", 0) + 1


def test_a_click_below_counts_though_the_page_is_to_be_drawn_again() -> None:
    at = AppTest.from_function(_page).run()
    at.button[0].click().run()
    assert not at.exception and at.session_state.started == 1


@pytest.mark.parametrize(("drawn", "wanted"), [(None, []), ([], []), (["part"], ["app"])])
def test_only_a_timer_draws_the_page_again(
    drawn: list[str] | None, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    context = SimpleNamespace(fragment_ids_this_run=drawn)
    monkeypatch.setattr(again, "get_script_run_ctx", lambda: context)
    monkeypatch.setattr(st, "rerun", lambda *, scope: asked.append(scope))
    again.page_again()
    assert asked == wanted


def _drawn_by_timers(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield the functions of a file that a timer draws: decorated so, or given to ``st.fragment`` by name."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    def timer(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and "run_every" in {key.arg for key in node.keywords}

    yield from (one for one in functions.values() if any(map(timer, one.decorator_list)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and timer(node):
            names = [given.id for given in node.args if isinstance(given, ast.Name)]
            yield from (functions[name] for name in names if name in functions)


def test_what_a_timer_draws_never_draws_the_page_again_by_itself() -> None:
    found = {}
    for file in sorted(Path(ui.__file__).parent.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for one in _drawn_by_timers(tree):
            found[f"{file.stem}.{one.name}"] = "st.rerun(" in ast.unparse(one)
    assert len(found) > 15, "the pattern is not seen any more"
    assert not [name for name, does in found.items() if does], "use hybridlab.ui.again.page_again"
