"""Names become edges: scopes, order, last uses, and every kind of wrong name."""

import pytest

from hybridlab.architecture.document import loads
from hybridlab.architecture.graph import Ref, expanded_count, resolve, try_resolve
from hybridlab.architecture.spec import Architecture, Node
from hybridlab.errors import SpecError


def found(nodes: str) -> list[str]:
    return [problem.sentence() for problem in try_resolve(loads(f"name: x\nnodes: [{nodes}]"))[1]]


def test_default_input_is_the_node_above_and_values_die_at_their_last_use():
    scope = resolve(
        loads("name: x\nnodes: [{use: a}, {use: b}, {use: c, inputs: [a, b]}, {use: d}]")
    )
    assert [step.reads for step in scope.steps] == [
        (Ref(0, "input"),),
        (Ref(0, "a"),),
        (Ref(0, "a"), Ref(0, "b")),
        (Ref(0, "c"),),
    ]
    assert [step.frees for step in scope.steps] == [("input",), (), ("a", "b"), ("c",)]
    assert scope.output == "d"


def test_inner_nodes_read_outward_and_keep_the_value_alive():
    text = (
        "name: x\nnodes: [{use: a}, {use: b}, {id: g, repeat: 2, nodes: "
        "[{use: c, inputs: [input, a]}, {id: h, nodes: [{use: d, inputs: [a]}]}]}, {use: e}]"
    )
    scope = resolve(loads(text))
    group = scope.steps[2]
    assert group.inner is not None
    assert group.inner.outer == {Ref(0, "a")}
    assert group.inner.steps[0].reads == (Ref(0, "input"), Ref(1, "a"))
    assert group.inner.steps[1].inner.steps[0].reads == (Ref(2, "a"),)
    assert scope.steps[1].frees == ()
    assert group.frees == ("a", "b")


def test_nodes_may_be_written_in_any_order():
    scope = resolve(
        loads(
            "name: x\nnodes: [{use: a, inputs: [b]}, {use: b, inputs: [input]}, {use: c, inputs: [a]}]"
        )
    )
    assert [step.node.id for step in scope.steps] == ["b", "a", "c"]


def test_all_wrong_names_are_reported():
    sentences = found(
        "{id: a, use: q, inputs: [b]}, {id: b, use: q, inputs: [a]}, {id: a, use: r, inputs: [zz]}, "
        "{id: g, nodes: [{use: t}], inputs: [a, b]}"
    )
    assert any("circle" in s and "'a'" in s and "'b'" in s for s in sentences)
    assert any("taken by nodes[0]" in s and "try a_2" in s for s in sentences)
    assert any("'zz'" in s and "known: a, b, g, input" in s for s in sentences)
    assert any("a group takes one input" in s for s in sentences)


@pytest.mark.parametrize(
    "nodes",
    [
        "{id: a, use: q, inputs: [a]}",
        "{id: g, nodes: [{use: q, inputs: [g]}]}",
        "{id: a, use: q, inputs: [c]}, {id: b, use: q}, {id: c, use: q}",
    ],
)
def test_cycles(nodes):
    assert any("circle" in sentence for sentence in found(nodes))


def test_a_near_miss_is_suggested():
    assert any(
        "did you mean 'stage'?" in s for s in found("{id: stage, use: a}, {use: b, inputs: [stag]}")
    )


def test_dead_work_is_a_warning_not_an_error():
    architecture = loads("name: x\nnodes: [{use: a}, {use: b, inputs: [input]}]")
    scope, problems = try_resolve(architecture)
    assert scope is not None
    assert [(p.path, p.severity) for p in problems] == [("nodes[0]", "warning")]


def test_too_many_nodes_once_repeats_are_written_out():
    text = "name: x\nnodes: [{repeat: 500, nodes: [{repeat: 500, nodes: [{use: a}]}]}]"
    assert expanded_count(loads(text).nodes) == 250_000
    with pytest.raises(SpecError, match=r"too many nodes .*250,000"):
        resolve(loads(text))


def test_too_deep():
    node = Node(id="leaf", use="a")
    for level in range(15):
        node = Node(id=f"g{level}", nodes=(node,))
    resolve(Architecture(name="x", nodes=(node,)))
    node = Node(id="one_more", nodes=(node,))
    problems = try_resolve(Architecture(name="x", nodes=(node,)))[1]
    assert [problem.message for problem in problems] == ["groups are nested too deeply"]
