"""Parts are shared where several heads depend on them."""

from __future__ import annotations

from hybridlab.architecture.document import loads
from hybridlab.architecture.reached import heads_reached, joined, shared_paths

FORK = """
name: fork
width: 8
nodes:
  - {id: read, use: pixel_series}
  - id: stage
    repeat: 2
    nodes:
      - {id: mix, use: attention, heads: 2}
      - {id: bend, use: swiglu}
  - {id: left, use: swiglu}
  - {id: right, use: swiglu, inputs: [stage]}
  - {id: lost, use: swiglu, inputs: [stage]}
  - {id: one, use: classifier, inputs: [left]}
  - {id: two, use: classifier, inputs: [right]}
"""


def test_what_is_on_the_way_to_both_heads_is_shared() -> None:
    reached = heads_reached(loads(FORK), ["one", "two"])
    both = frozenset({"one", "two"})
    assert {
        path: reached[path] for path in ("read", "stage", "stage.mix", "stage.bend")
    } == dict.fromkeys(("read", "stage", "stage.mix", "stage.bend"), both)
    assert reached["left"] == {"one"} and reached["right"] == {"two"} and "lost" not in reached
    assert shared_paths(reached) == {"read", "stage", "stage.mix", "stage.bend"}
    assert joined(reached, ["left", "right"]) == both and joined(reached, ["lost"]) == frozenset()


def test_a_node_in_a_group_that_reads_from_outside_passes_its_heads_on() -> None:
    text = """
name: inner
width: 8
nodes:
  - {id: read, use: pixel_series}
  - {id: aside, use: swiglu}
  - {id: main, use: swiglu, inputs: [read]}
  - id: group
    nodes:
      - {id: work, use: swiglu}
      - {id: join, use: sum, inputs: [work, aside]}
      - {id: unread, use: swiglu, inputs: [input]}
      - {id: out, use: sum, inputs: [join, join]}
  - {id: one, use: classifier}
  - {id: two, use: classifier, inputs: [main]}
"""
    reached = heads_reached(loads(text), ["one", "two"])
    assert reached["aside"] == {"one"}
    assert reached["main"] == {"one", "two"} == reached["read"]
    assert reached["group.work"] == {"one"} and "group.unread" not in reached
