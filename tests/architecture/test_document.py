"""Text in, architecture out: every error at once, comments kept, hostile text refused quickly."""

import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridlab.architecture.document import dump, load, loads, parse, read_yaml, write_yaml
from hybridlab.architecture.library import presets
from hybridlab.architecture.spec import Architecture, Node, Residual
from hybridlab.errors import SpecError

MIXED = """\
# a comment at the top
name: mixed   # and one beside
width: 64
nodes:
  - {id: tokens, use: token_embedding, vocab: 64}
  - id: stage
    repeat: 2
    nodes:
      - {use: attention, heads: 4}   # inside a group
      - {use: swiglu}
  - {id: a, use: attention, residual: none}
  - {id: b, use: lstm, inputs: [stage]}
  - {use: sum, inputs: [a, b]}
"""


def sentences(text: str) -> list[str]:
    architecture, problems = parse(text)
    assert architecture is None
    return [problem.sentence() for problem in problems]


@pytest.mark.parametrize("entry", presets(), ids=lambda entry: entry.name)
def test_presets_round_trip_to_the_same_text(entry):
    assert write_yaml(read_yaml(entry.text())) == entry.text()
    architecture = load(entry.path)
    assert loads(dump(architecture)) == architecture
    assert architecture.source.startswith("https://")


def test_comments_and_order_survive():
    assert write_yaml(read_yaml(MIXED)) == MIXED


def test_ids_are_supplied_and_left_out_again():
    architecture = loads(MIXED)
    assert [node.id for node in architecture.nodes] == ["tokens", "stage", "a", "b", "sum"]
    assert [node.id for node in architecture.nodes[1].nodes] == ["attention", "swiglu"]
    text = dump(architecture)
    assert "- {use: swiglu}" in text and "{id: a, use: attention" in text
    assert loads(text) == architecture


def test_fingerprint_follows_the_model_and_nothing_else():
    first = loads(MIXED)
    assert first.fingerprint == loads(MIXED.replace("mixed", "other")).fingerprint
    assert first.fingerprint == loads(dump(first)).fingerprint
    assert first.fingerprint != loads(MIXED.replace("heads: 4", "heads: 8")).fingerprint
    assert first.fingerprint != loads(MIXED.replace("repeat: 2", "repeat: 3")).fingerprint
    assert loads("name: pinned\nnodes: [{use: lstm}]").fingerprint == "e18adf3f5d712da3"


def test_every_error_at_once_with_path_expected_got_fix():
    found = sentences(
        "name: x\nwidht: 3\nnodes:\n - {use: a, repeat: 0}\n - {id: '1x', use: b}\n - 5\n - {}\n"
        " - {nodes: [{use: x}], foo: 1}\n"
    )
    assert any(
        s.startswith("nodes[0].repeat: is out of range (expected at least 1, got 0)") for s in found
    )
    assert any("widht" in s and "did you mean 'width'?" in s for s in found)
    assert any(s.startswith("nodes[1].id") for s in found)
    assert any(s.startswith("nodes[2]: has the wrong type") for s in found)
    assert any(s.startswith("nodes[3]") for s in found)
    assert any("'foo'" in s for s in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not an architecture"),
        ("[1, 2]", "not an architecture"),
        ("just words", "not an architecture"),
        ("name: x\nnodes: []", "empty"),
        ("name: x\nnodes: {}", "nodes"),
        ("nodes: [{use: a}]", "name"),
        ("{", "not YAML"),
        ("name: x\n\tnodes: 1", "not YAML"),
        ("name: x\nname: y\nnodes: [{use: a}]", "duplicate key"),
        ("name: x\nnodes: [{use: a, id: input}]", "reserved"),
        ("name: x\nnodes: [{use: a, tie: true}]", "belong to groups"),
        ("name: x\nnodes: [{use: a, inputs: []}]", "inputs"),
        ("name: x\nnodes: [{use: a, since: 2001-01-01}]", "quotes"),
        ("name: x\nnodes: [{use: a, residual: maybe}]", "pre"),
        ("name: x\nwidth: .inf\nnodes: [{use: a}]", "width"),
        ("name: x\nwidth: 1.5\nnodes: [{use: a}]", "whole number"),
        ("name: x\nwidth: yes please\nnodes: [{use: a}]", "whole number"),
        ("name: x\nnodes: [{use: a, 3: 4}]", "not text"),
        ("a: &a [1]\nname: x\nnodes: *a", "aliases"),
        ("name: " + "n" * 300 + "\nnodes: [{use: a}]", "name"),
        ("\x00\x01\x02", "not YAML"),
    ],
)
def test_bad_text_gets_one_clear_sentence(text, words):
    assert any(words in sentence for sentence in sentences(text))


def test_hostile_text_is_refused_quickly():
    layers = "\n".join(
        f"l{i + 1}: &l{i + 1} [*l{i}, *l{i}, *l{i}, *l{i}, *l{i}, *l{i}]" for i in range(20)
    )
    many = "name: x\nnodes:\n" + "  - {use: lstm}\n" * 10_000
    for text in ("l0: &l0 [x]\n" + layers, "[" * 5000, "{a: " * 5000, many, "x" * 10**6):
        start = time.process_time()
        assert sentences(text)
        assert time.process_time() - start < 2
    deep = "name: x\nnodes:\n"
    for level in range(40):
        deep += "  " * level + "- nodes:\n" if level == 0 else "  " * level * 1 + "  - nodes:\n"
    assert sentences(deep)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_no_infinity_or_nan_as_repeat(value):
    assert sentences(f"name: x\nnodes: [{{nodes: [{{use: a}}], repeat: {value}}}]")


def test_unicode_and_html_in_names_are_kept_as_text():
    name = "<script>alert(1)</script> Größe 学习"
    architecture = loads(f"name: '{name}'\nnodes: [{{id: größe, use: lstm}}]")
    assert architecture.name == name
    assert loads(dump(architecture)) == architecture
    assert sentences("name: x\nnodes: [{id: '<b>', use: lstm}]")


def test_files(tmp_path: Path):
    with pytest.raises(SpecError, match="cannot be read"):
        load(tmp_path / "missing.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(SpecError, match="not a text file"):
        load(tmp_path / "bytes")
    (tmp_path / "large").write_text("#" * 600_000)
    with pytest.raises(SpecError, match="too large"):
        load(tmp_path / "large")


scalars = st.one_of(
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20).filter(lambda s: s.isprintable()),
)
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda s: s != "input")


def nodes(depth: int) -> st.SearchStrategy[Node]:
    leaf = st.builds(
        Node,
        id=names,
        use=names,
        params=st.dictionaries(
            names.filter(lambda s: s not in Node.model_fields), scalars, max_size=3
        ),
        inputs=st.none() | st.lists(names, min_size=1, max_size=3).map(tuple),
        residual=st.none() | st.sampled_from(Residual),
    )
    if depth == 0:
        return leaf
    group = st.builds(
        Node,
        id=names,
        nodes=st.lists(nodes(depth - 1), min_size=1, max_size=3).map(tuple),
        repeat=st.integers(1, 5),
        tie=st.booleans(),
    )
    return leaf | group


@settings(deadline=None)
@given(
    st.builds(
        Architecture,
        name=st.text(min_size=1, max_size=30).filter(str.isprintable),
        width=st.integers(1, 4096),
        nodes=st.lists(nodes(2), min_size=1, max_size=4).map(tuple),
    )
)
def test_any_architecture_round_trips(architecture):
    again = loads(dump(architecture))
    assert again == architecture
    assert again.fingerprint == architecture.fingerprint


@pytest.mark.parametrize("value", ["?0", "?", ":0", "-0", "- a", "a ?b", "a: b", "#a", "a #b"])
def test_a_word_that_yaml_could_take_for_something_else_round_trips(value):
    node = Node(id="a", use="mlp", params={"word": value})
    architecture = Architecture(name=value, width=8, nodes=(node,))
    assert loads(dump(architecture)) == architecture


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    architecture, problems = parse(text)
    assert (architecture is None) == bool(problems)
    assert all(problem.sentence() for problem in problems)
    assert not any(math.isnan(len(problem.message)) for problem in problems)
