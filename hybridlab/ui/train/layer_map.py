"""Which component of a teacher each of a student's is to be like, marked on both diagrams and changed by clicks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import streamlit as st

from hybridlab.architecture.spec import Architecture
from hybridlab.training.flow import Kinds, parts_of
from hybridlab.training.teacher_layers import at_same_depth
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.views.diagram import Box, DiagramInfo, diagram_info

_PICKED = "train.teacher.picked"
_HEIGHT_PX = 420
_REPEAT = re.compile(r"\.\d+(?=\.)")
Pair = Mapping[str, str]
Pairs = Sequence[Pair]
Places = Mapping[str, Sequence[str]]
"""Paths of components by the address of their box; several where their group is repeated."""


def layer_map(
    theirs: Architecture,
    own: Architecture,
    kinds: Kinds,
    pairs: Pairs,
    put: Callable[[list[dict[str, str]]], None],
) -> None:
    """Show both networks with what is compared marked by numbers; ``put`` takes the pairs that clicks make."""
    if max(sum(1 for _ in one.walk()) for one in (theirs, own)) > MOST_BOXES:
        return
    teacher, student = places_of(theirs, kinds), places_of(own, kinds)
    picked = str(state.keep(_PICKED, ""))
    picked = picked if picked in teacher else ""
    marks = numbers(pairs, teacher)

    def pick(box: str) -> None:
        state.put(_PICKED, "" if box == picked else box)

    def join(box: str) -> None:
        state.put(_PICKED, "")
        if box in student and (picked or _of_any(pairs, student[box])):
            order = [part.path for part in parts_of(own, kinds)]
            put(joined(pairs, student, box, teacher.get(picked, ()), order))

    st.caption(
        f"Now click what is to be like {shell.escaped(_REPEAT.sub('', teacher[picked][0]))} in the student."
        if picked
        else "Click a component of the teacher, then the one of the student that is to be like it. A click on a "
        "component of the student alone takes its pair away."
    )
    left, right = st.columns(2)
    with left:
        st.markdown("**Teacher**")
        diagram(
            "train.teacher.theirs",
            _marked(theirs, teacher, marks),
            picked or None,
            pick,
            _HEIGHT_PX,
        )
    with right:
        st.markdown("**Student**")
        like = {
            pair["student"]: marks[pair["teacher"]] for pair in pairs if pair["teacher"] in marks
        }
        diagram("train.teacher.own", _marked(own, student, like), None, join, _HEIGHT_PX)


def places_of(architecture: Architecture, kinds: Kinds) -> dict[str, list[str]]:
    """Return the paths of components, in running order, by the address of the node that they are of."""
    addresses = {ids: path for path, ids, node in architecture.walk() if not node.is_group}
    found: dict[str, list[str]] = {}
    for part in parts_of(architecture, kinds):
        found.setdefault(addresses[part.ids], []).append(part.path)
    return found


def numbers(pairs: Pairs, teacher: Places) -> dict[str, str]:
    """Return a number for each node of the teacher that is compared, from 1 in running order, by the paths of it."""
    used = {pair["teacher"] for pair in pairs}
    compared = [paths for paths in teacher.values() if used & set(paths)]
    return {path: str(place) for place, paths in enumerate(compared, 1) for path in paths}


def joined(
    pairs: Pairs, student: Places, box: str, teacher: Sequence[str], order: Sequence[str]
) -> list[dict[str, str]]:
    """Return pairs in which a node of the student is like one of the teacher, repeats at the same relative depth.

    Without paths of a teacher's node it is like none. Pairs come in the ``order`` of the student's paths.
    """
    mine = student[box]
    kept = [dict(pair) for pair in pairs if pair["student"] not in mine]
    if teacher:
        kept += [
            {"teacher": teacher[at_same_depth(place, len(mine), len(teacher))], "student": path}
            for place, path in enumerate(mine)
        ]
    known = {path: place for place, path in enumerate(order)}
    return sorted(kept, key=lambda pair: known.get(pair["student"], len(known)))


def _of_any(pairs: Pairs, paths: Sequence[str]) -> bool:
    return any(pair["student"] in paths for pair in pairs)


def _marked(architecture: Architecture, places: Places, marks: Mapping[str, str]) -> DiagramInfo:
    """Return a network's diagram in which each compared node has its number, or those of its repeats."""
    info = diagram_info(architecture, catalogue=predictions.components())

    def marked(box: Box) -> Box:
        found = [marks[path] for path in places.get(box.path, ()) if path in marks]
        if not found:
            return box
        words = f"compared: {', '.join(dict.fromkeys(found))}"
        return replace(box, detail=words, told=words, tint=1.0)

    return replace(info, boxes=tuple(map(marked, info.boxes)))
