"""Problems and hints as rows: what is wrong, the way to it, and a button for each fix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from hybridlab.architecture.fixes.fix import Fix, applied
from hybridlab.errors import Problem
from hybridlab.ui import shell
from hybridlab.ui.design import actions
from hybridlab.ui.design.look import Look

Offers = Mapping[Problem, tuple[Fix, ...]]


def problem_list(known: Look) -> None:
    """List every problem of the design with its place, a way to it, and its fixes; hints stand apart, below."""
    shell.problems(actions.notice())
    nodes = sorted(actions.nodes(), key=len, reverse=True)

    def show(problem: Problem) -> Callable[[], None] | None:
        path = next((each for each in nodes if problem.path.startswith(each)), None)
        return (lambda: actions.select(path)) if path else None

    ordered = sorted(known.problems, key=lambda problem: problem.severity != "error")
    rows(ordered, known.fixes, "problem", take, show)
    if known.hints:
        st.caption("Hints, from the predicted cost; the design is right without them.")
        rows(known.hints, known.fixes, "hint", take, show)


def rows(
    problems: Sequence[Problem],
    offers: Offers,
    key: str,
    fix: Callable[[Fix], None],
    show: Callable[[Problem], Callable[[], None] | None] = lambda problem: None,
) -> None:
    """Show problems one by one; ``fix`` hears which fix was taken, ``show`` gives the way to a problem's place."""
    for index, problem in enumerate(problems):
        way, found = show(problem), offers.get(problem, ())
        with st.container(key=f"{key}.{index}.row", gap="xsmall"):
            shell.problems([problem])
            if not way and not found:
                continue
            with st.container(horizontal=True, gap="xsmall"):
                for place, each in enumerate(found):
                    st.button(
                        shell.escaped(each.title),
                        key=f"{key}.{index}.fix.{place}",
                        icon=":material/build:",
                        type="primary" if not place else "secondary",
                        on_click=fix,
                        args=(each,),
                    )
                if way:
                    st.button("Show", key=f"{key}.{index}", type="tertiary", on_click=way)


def take(fix: Fix) -> None:
    """Make a fix on the design, as one step of undo."""
    actions.apply(lambda text: applied(text, fix))
