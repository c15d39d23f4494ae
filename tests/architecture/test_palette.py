"""Every component in an architecture of its own: written and read again, and counted before it is built."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridlab.architecture.counting import count_parameters
from hybridlab.architecture.document import dump, loads
from hybridlab.architecture.model import build
from hybridlab.architecture.spec import NODE_KEYS
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.trace.predict import predict
from tests.components.cases import every_case

READS = {
    TensorKind.TOKENS: TensorType(TensorKind.TOKENS, ("B", "L"), "int64"),
    TensorKind.SERIES: TensorType(TensorKind.SERIES, ("B", "L", 3)),
    TensorKind.IMAGE: TensorType(TensorKind.IMAGE, ("B", 2, 8, 12)),
}


def alone(name: str, params: dict[str, Any]) -> tuple[str, TensorType | None]:
    """Return an architecture of one component, a merge of its input with itself, and what it reads."""
    cls = palette()[name].cls
    node: dict[str, Any] = {"id": "only", "use": name, **params}
    nodes = [node]
    if name == "upsample":
        nodes.insert(0, {"id": "short", "use": "downsample", "stride": params.get("stride", 2)})
        node["inputs"] = ["short", "input"]
    elif cls.min_inputs > 1:
        node["inputs"] = ["input"] * cls.min_inputs
    text = f"name: alone\nwidth: 16\nnodes: {json.dumps(nodes)}\n"
    return text, READS.get(sorted(cls.accepts)[0])


@pytest.mark.parametrize("name", list(palette()))
def test_no_parameter_is_named_like_a_key_of_every_node(name: str) -> None:
    """A design could not set it: the key would be read as the node's own."""
    assert not set(palette()[name].cls.Params.model_fields) & set(NODE_KEYS)


@every_case
def test_it_is_written_read_and_counted(name: str, params: dict[str, Any]) -> None:
    text, reads = alone(name, params)
    architecture = loads(text)
    assert architecture.nodes[-1].params == params
    again = loads(dump(architecture))
    assert again == architecture and again.fingerprint == architecture.fingerprint
    built = build(architecture, reads, seed=0)
    counted = sum(weight.numel() for weight in built.parameters())
    assert count_parameters(architecture, reads) == counted
    body = dict(built.slots())["only"].body
    assert body.params == palette()[name].cls.Params.model_validate_json(json.dumps(params))


@pytest.mark.parametrize("name", list(palette()))
def test_a_prediction_counts_what_is_built(name: str) -> None:
    text, reads = alone(name, {})
    architecture = loads(text)
    counted = sum(weight.numel() for weight in build(architecture, reads).parameters())
    found = predict(architecture, reads, batch=2, length=16)
    assert found.ok
    assert found.params == counted == sum(cost.params for cost in found.components)
