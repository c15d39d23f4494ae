"""The JSON Schema of architecture files, for editors that complete and check while one types."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.spec import Architecture, Node
from hybridlab.components.base import ComponentInfo
from hybridlab.components.registry import palette


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a file: parameters stand beside ``use``, as people write them."""
    architecture = Architecture.model_json_schema()
    node = Node.model_json_schema()
    definitions = architecture.pop("$defs")
    fields = (
        node["$defs"]["Node"]["properties"]
        if "Node" in node.get("$defs", {})
        else node["properties"]
    )
    shared = {key: fields[key] for key in ("id", "inputs", "share", "residual")}
    shared["inputs"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    }
    group = {key: fields[key] for key in ("repeat", "tie")}
    group["nodes"] = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Node"}}
    component = shared | {"lora": fields["lora"]}
    kinds = [
        {
            "title": "group",
            "type": "object",
            "properties": shared | group,
            "required": ["nodes"],
            "additionalProperties": False,
        }
    ]
    for info in palette().values():
        own, nested = _parameters(info)
        definitions |= nested
        kinds.append(
            {
                "title": info.title,
                "description": info.summary,
                "type": "object",
                "properties": {"use": {"const": info.name}} | component | own["properties"],
                "required": ["use", *own.get("required", [])],
                "additionalProperties": False,
            }
        )
    definitions["Node"] = {"anyOf": kinds}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **architecture,
        "$defs": definitions,
    }


def _parameters(info: ComponentInfo) -> tuple[dict[str, Any], dict[str, Any]]:
    schema = info.cls.Params.model_json_schema()
    nested = schema.pop("$defs", {})
    return {"properties": {}, **schema}, nested
