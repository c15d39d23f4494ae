"""Wrapping nodes in a group, or putting them in its place, changes where they stand, never what they read or share."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hybridlab.architecture import edit, share_paths
from hybridlab.architecture.document import contents, implied_ids, loads
from hybridlab.architecture.graph import resolve, try_resolve
from hybridlab.architecture.lending import find_lenders
from hybridlab.architecture.spec import INPUT, Node
from hybridlab.errors import Problem, SpecError

IDS = ("stage", "a", "b", "mlp", "mlp_2")
"""Few, and among them those that a new group or a place would get, so that names meet."""


def value(node: Node) -> str:
    """Return the tag of the component whose result a node hands on."""
    return value(node.nodes[-1]) if node.is_group else str(node.params["tag"])


def flow(
    nodes: tuple[Node, ...], entering: str = INPUT, around: Mapping[str, str] | None = None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the tag of every component, and ``group`` for a group, with the tags of what it reads."""
    seen = {**(around or {}), INPUT: entering, **{node.id: value(node) for node in nodes}}
    for index, node in enumerate(nodes):
        above = value(nodes[index - 1]) if index else entering
        reads = tuple(seen[name] for name in node.inputs) if node.inputs else (above,)
        yield ("group" if node.is_group else value(node)), reads
        yield from flow(node.nodes, reads[0], seen)


def flows(text: str) -> dict[str, tuple[str, ...]]:
    found = dict(flow(loads(text).nodes))
    found.pop("group", None)
    return found


def drawn(
    rng: random.Random, tags: Iterator[int], around: tuple[str, ...] = (), depth: int = 0
) -> list[dict[str, Any]]:
    """Return nodes that read what stands before or around them, some of them groups."""
    nodes: list[dict[str, Any]] = []
    for _ in range(rng.randint(2, 4)):
        free = [name for name in IDS if name not in implied_ids(nodes)]
        node: dict[str, Any] = {"id": rng.choice(free)} if free and rng.random() < 0.5 else {}
        names = list(dict.fromkeys([INPUT, *implied_ids(nodes), *around]))
        group = depth < 2 and rng.random() < 0.3
        if rng.random() < 0.5:
            node["inputs"] = rng.sample(names, 1 if group else rng.randint(1, min(2, len(names))))
        if group:
            node["nodes"] = drawn(rng, tags, tuple(names[1:]), depth + 1)
        else:
            node |= {"use": "mlp", "tag": next(tags)}
        nodes.append(node)
    return nodes


def text_of(nodes: list[dict[str, Any]]) -> str:
    return f"name: t\nwidth: 64\nnodes: {json.dumps(nodes)}\n"


def wrapped(rng: random.Random, text: str) -> tuple[str, str] | None:
    """Wrap some nodes in a row; return the text and the group's address, None where that is rightly refused."""
    paths = [path for path, _, _ in loads(text).walk()]
    path = rng.choice(paths)
    head, _, last = path.rpartition("nodes[")
    siblings = edit.siblings_at(text, head)
    index = int(last.removesuffix("]"))
    count = rng.randint(1, len(siblings) - index)
    try:
        return edit.wrap(text, path, repeat=1, count=count), path
    except SpecError as error:
        assert "hands on its last node only" in str(error)
        stray = str(error).split("outside reads '")[1].split("'")[0]
        inside = implied_ids(siblings)[index : index + count - 1]
        assert stray in inside
        return None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_every_node_reads_after_wrapping_what_it_read_before(seed):
    rng = random.Random(seed)
    text = text_of(drawn(rng, iter(range(1_000))))
    assume(try_resolve(loads(text))[0] is not None)  # without circles
    before = flows(text)
    for _ in range(4):
        if made := wrapped(rng, text):
            text = made[0]
            assert flows(text) == before, text


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_every_node_reads_after_unwrapping_what_it_read_before(seed):
    rng = random.Random(seed)
    text = text_of(drawn(rng, iter(range(1_000))))
    assume(try_resolve(loads(text))[0] is not None)
    before = flows(text)
    while groups := [path for path, _, node in loads(text).walk() if node.is_group]:
        text = edit.unwrap(text, rng.choice(groups))
        assert flows(text) == before, text


def lenders(text: str) -> dict[str, str] | None:
    """Return the tag of each component that borrows with that of its lender; None where something does not fit."""
    problems: list[Problem] = []
    found = find_lenders(resolve(loads(text)), problems)
    tags = {ids: node.params.get("tag") for _, ids, node in loads(text).walk()}
    return None if problems else {tags[a]: tags[b] for a, b in found.items() if tags[a] is not None}


def lent(rng: random.Random, nodes: list[dict[str, Any]], tags: Iterator[int]) -> str:
    """Return a text in which some of the nodes share others' weights, whole groups too."""
    flat = [n for n in nodes if "nodes" in n and not any("nodes" in one for one in n["nodes"])]
    for node in [node for node in flat if rng.random() < 0.6]:
        twin = json.loads(json.dumps(node), object_hook=lambda one: again(one, tags))
        lender = implied_ids(nodes)[nodes.index(node)]
        nodes.append({**twin, "id": f"like_{lender}", "share": lender, "inputs": [INPUT]})
        node["id"] = lender
    text = text_of(nodes)
    for _ in range(4):
        places = [(path, ids) for path, ids, node in loads(text).walk() if not node.is_group]
        (path, _), (_, ids) = rng.choices(places, k=2)
        tried = edit.set_parameter(text, path, "share", ids)
        text = tried if lenders(tried) is not None else text
    return text


def again(node: dict[str, Any], tags: Iterator[int]) -> dict[str, Any]:
    return {**node, "tag": next(tags)} if "tag" in node else node


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_every_node_shares_after_an_edit_the_weights_that_it_shared_before(seed):
    rng = random.Random(seed)
    tags = iter(range(1_000))
    nodes = drawn(rng, tags)
    assume(try_resolve(loads(text_of(nodes)))[0] is not None)
    text = lent(rng, nodes, tags)
    assume(lenders(text))
    before = lenders(text)
    for number in range(4):
        groups = [path for path, _, node in loads(text).walk() if node.is_group]
        anything = [path for path, _, _ in loads(text).walk()]
        path = rng.choice(groups if groups and number % 2 else anything)
        if rng.random() < 0.4:
            text = edit.rename(text, path, f"r{number}")
        elif len(share_paths.twins(contents(text)[0], path)) > 1:
            continue  # nodes of a group that is shared as a whole: it and the other would differ
        elif path in groups:
            try:
                text = edit.unwrap(text, path)
            except SpecError as error:
                assert "are shared as a whole" in str(error)
        else:
            text = edit.wrap(text, path, repeat=1)
        assert lenders(text) == before, text


A, B, C = ({"use": "mlp", "tag": tag} for tag in "ABC")
GROUP = {"id": "g", "nodes": [A]}


def test_a_group_that_is_read_later_takes_its_reader_along_or_stays_outside():
    text = text_of([GROUP, B, {**C, "inputs": ["g"]}])
    with pytest.raises(SpecError, match="but a node outside reads 'g'"):
        edit.wrap(text, "nodes[0]", count=2)
    assert flows(edit.wrap(text, "nodes[0]", repeat=1, count=3)) == flows(text)


def test_what_nodes_call_input_is_still_what_entered_the_group_around():
    text = text_of([A, B, {**C, "inputs": ["mlp_2", INPUT]}])
    made = loads(edit.wrap(text, "nodes[1]", repeat=1, count=2)).nodes[1]
    assert (made.inputs, made.nodes[0].inputs) == ((INPUT,), ("mlp",))


def test_the_new_group_takes_no_name_that_means_another_node():
    inner = [A, {**B, "inputs": ["mlp", "stage"]}]
    text = text_of([{**C, "id": "stage"}, {"id": "g", "nodes": inner}])
    made = edit.wrap(text, "nodes[1].nodes[0]", repeat=1)
    assert loads(made).nodes[1].nodes[0].id == "stage_2"
    assert flows(made) == flows(text)


def test_a_first_node_that_reads_a_later_one_goes_on_reading_that():
    inner = [{**B, "inputs": ["x"]}, {**C, "id": "x", "inputs": [INPUT]}]
    text = text_of([{**A, "id": "x"}, {"id": "g", "nodes": [A | {"tag": "D"}, *inner]}])
    assert flows(edit.wrap(text, "nodes[1].nodes[1]", count=2)) == flows(text)


def test_what_a_groups_nodes_call_input_is_still_what_entered_it():
    text = text_of(
        [A, {"id": "g", "nodes": [B, {**C, "inputs": ["mlp", INPUT]}]}, A | {"tag": "D"}]
    )
    assert flows(edit.unwrap(text, "nodes[1]"))["C"] == ("B", "A") == flows(text)["C"]


def test_who_shares_a_nodes_weights_follows_it_in_and_out_of_groups():
    lent = {"id": "one", **A}
    text = text_of([{"id": "g", "nodes": [lent, B]}, {**C, "share": "g.one"}])
    renamed = edit.rename(text, "nodes[0].nodes[0]", "first")
    assert loads(renamed).nodes[1].share == "g.first"
    lender, _, borrower = loads(edit.unwrap(renamed, "nodes[0]")).nodes
    assert borrower.share == lender.id
    deep = edit.wrap(renamed, "nodes[0].nodes[0]", repeat=1)
    assert loads(deep).nodes[1].share == "g.stage.first"
    assert loads(edit.rename(deep, "nodes[0].nodes[0]", "inner")).nodes[1].share == "g.inner.first"
    whole = text_of([{"id": "g", "nodes": [lent]}, {"id": "h", "share": "g", "nodes": [lent]}])
    with pytest.raises(SpecError, match="shared as a whole"):
        edit.unwrap(whole, "nodes[0]")
    assert loads(edit.unwrap(whole, "nodes[1]")).nodes[1].share == "g.one"


def test_a_node_in_a_group_that_is_shared_as_a_whole_is_renamed_in_both():
    inner = [A, {**A, "tag": "B"}, {**C, "inputs": ["mlp_2"]}]
    text = text_of(
        [
            {"id": "g", "nodes": inner},
            {"id": "h", "share": "g", "nodes": inner},
            {**A, "share": "h.mlp"},
        ]
    )
    for path in ("nodes[0].nodes[0]", "nodes[1].nodes[0]"):
        made = loads(edit.rename(text, path, "first")).nodes
        names = [[node.id for node in group.nodes] for group in made[:2]]
        assert names == [["first", "mlp_2", "mlp_3"]] * 2 and made[2].share == "h.first"


def test_a_group_that_is_shared_as_a_whole_from_outside_of_the_group_around_stays():
    text = text_of([{"id": "o", "nodes": [GROUP, B]}, {"id": "h", "share": "o.g", "nodes": [A]}])
    with pytest.raises(SpecError, match="shared as a whole"):
        edit.unwrap(text, "nodes[0].nodes[0]")
