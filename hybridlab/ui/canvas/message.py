"""Everything the canvas is told about a design, as plain JSON."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hybridlab.errors import Problem
from hybridlab.ui import predictions
from hybridlab.ui.canvas import block_entries
from hybridlab.ui.canvas.changed import changed
from hybridlab.ui.canvas.desk import Desk
from hybridlab.ui.canvas.tree import Tree, tree
from hybridlab.ui.design.look import Look
from hybridlab.ui.schema import Field, fields
from hybridlab.views.style import KIND_COLOURS, KIND_TITLES, OTHER_COLOUR

_REPEAT = re.compile(r"\.\d+(?=\.|$)")
_SUMMED = ("flops", "activation_bytes", "ms")


def message(desk: Desk, known: Look) -> dict[str, Any]:
    """Return what the canvas shows; costs carry the revision they belong to."""
    design = desk.design
    nodes, drawn = tree(design.text)
    prediction = known.prediction or {}
    supplied = _supplied(known)
    flow = flows(known.edges, prediction.get("edges", {}))
    first = next((item["id"] for item in supplied if item["place"] == "first"), None)
    return {
        "seed": desk.seed,
        "revision": design.revision,
        "acknowledged": desk.acknowledged,
        "refused": desk.refused,
        "readable": drawn,
        "name": known.architecture.name if known.architecture else "the design",
        "nodes": list(nodes),
        "supplied": supplied,
        "costs_revision": -1 if known.pending else design.revision,
        "costs": costs(prediction.get("components", ()), nodes),
        "flows": flow,
        "input": flow[first]["type"] if first in flow else known.input,
        "problems": [
            told(item, known)
            for item in known.problems
            if nodes or not drawn or (item.severity == "error" and item.path != "nodes")
        ],
        "hints": [told(item, known) for item in known.hints],
        "can_undo": bool(design.past),
        "can_redo": bool(design.future),
        "wish": desk.wish(),
        "places": desk.places,
        "changed": changed(design.saved_text, design.text),
        "varies": desk.varies,
        "blocks": block_entries.block_entries(),
    }


def packed(content: Mapping[str, Any], ahead: str | None = None) -> bytes:
    """Return a message as JSON, with the palette, which is written once: Streamlit would write a mapping twice.

    ``ahead`` is the address at which the canvas may ask what its edits will cost.
    """
    return f"{json.dumps({**content, 'ahead': ahead})[:-1]}, {_unchanging()[1:]}".encode()


@functools.cache
def _unchanging() -> str:
    colours = {
        kind: {"title": title, "colour": KIND_COLOURS[kind]} for kind, title in KIND_TITLES.items()
    } | {block_entries.KIND: {"title": "Your blocks", "colour": OTHER_COLOUR}}
    return json.dumps({"catalogue": palette(), "kinds": colours})


def told(problem: Problem, known: Look) -> dict[str, Any]:
    """Return a problem or hint with its fixes as the canvas shows them."""
    return {
        "path": problem.path,
        "sentence": problem.sentence(),
        "severity": problem.severity,
        "fixes": [fix.as_dict() for fix in known.fixes.get(problem, ())],
    }


def costs(components: Sequence[Mapping[str, Any]], nodes: Tree) -> dict[str, dict[str, float]]:
    """Return each node's and group's cost by its path of ids, all repeats together.

    Shared weights count once; their work counts as often as the group repeats.
    """
    repeats = _repeats(nodes, "", 1)
    listed: dict[str, list[Mapping[str, Any]]] = {}
    for item in components:
        listed.setdefault(_REPEAT.sub("", str(item["path"])), []).append(item)
    result: dict[str, dict[str, float]] = {}
    for path, items in listed.items():
        times = max(1.0, repeats.get(path, 1) / len(items))
        own = {"params": math.fsum(float(item["params"]) for item in items)}
        own |= {key: times * math.fsum(float(item[key]) for item in items) for key in _SUMMED}
        steps = path.split(".")
        for depth in range(1, len(steps) + 1):
            total = result.setdefault(".".join(steps[:depth]), dict.fromkeys(own, 0.0))
            for key, value in own.items():
                total[key] += value
    return result


def flows(
    types: Mapping[str, str], sizes: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return what each node hands on by its path of ids: the type, and its bytes where they are known for that type."""
    result: dict[str, dict[str, Any]] = {}
    for path, kind in types.items():
        size = sizes.get(path, {})
        known = size.get("bytes") if size.get("type") == kind else None
        result[_REPEAT.sub("", path)] = {"type": kind, "bytes": known}
    return result


def palette() -> list[dict[str, Any]]:
    """Return the catalogue with what the canvas needs of each parameter."""
    return [
        {
            **{key: entry[key] for key in ("name", "kind", "title", "summary", "cost", "paper")},
            "accepts": [str(kind) for kind in entry["accepts"]],
            "min_inputs": entry["min_inputs"],
            "max_inputs": entry["max_inputs"],
            "params": {item.name: _field(item) for item in fields(entry["params_schema"])},
        }
        for entry in predictions.components()
    ]


def _field(item: Field) -> dict[str, Any]:
    kinds = {"choice": "string", "list": "array", "text": "string"}
    given: dict[str, Any] = {
        "required": item.required,
        "optional": item.optional,
        "type": kinds.get(item.kind, item.kind),
        "unit": item.unit,
        "choices": list(item.choices) or None,
        "minimum": item.minimum,
        "maximum": item.maximum,
    }
    return {key: value for key, value in given.items() if value not in (None, "", False)} | {
        "required": item.required
    }


def _supplied(known: Look) -> list[dict[str, str]]:
    """Return the nodes that the task puts before and after the design's own."""
    if known.architecture is None or known.completed is None:
        return []
    own = {node.id for node in known.architecture.nodes}
    nodes = known.completed.nodes
    ends = (("first", nodes[0]), ("last", nodes[-1]))
    return [
        {"id": node.id, "use": node.use or "", "place": place}
        for place, node in ends
        if node.id not in own
    ]


def _repeats(nodes: Sequence[Mapping[str, Any]], ids: str, times: int) -> dict[str, int]:
    result = {}
    for node in nodes:
        path = f"{ids}{node['id']}"
        inner = times * int(node["repeat"]) if node["nodes"] is not None else times
        result[path] = times
        result |= _repeats(node["nodes"] or (), f"{path}.", inner)
    return result
