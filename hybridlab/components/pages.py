"""A component's documentation as a page of Markdown, written from the component's own file."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from hybridlab.components.base import BuildContext, Component, ComponentInfo, Kind
from hybridlab.components.data_flow import DataFlow, data_flow
from hybridlab.components.flow_picture import flow_picture
from hybridlab.components.measured_speed import measured_speed
from hybridlab.components.registry import lookup
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.units import format_bytes

WIDTH = 64
"""The width for which a page counts weights and state."""

_EXAMPLES: Mapping[TensorKind, tuple[tuple[str | int, ...], str]] = {
    TensorKind.TOKENS: (("B", "L"), "int64"),
    TensorKind.SEQUENCE: (("B", "L", WIDTH), "float32"),
    TensorKind.SERIES: (("B", "L", 3), "float32"),
    TensorKind.IMAGE: (("B", 3, 64, 64), "float32"),
    TensorKind.VECTOR: (("B", WIDTH), "float32"),
    TensorKind.LOGITS: (("B", "L", WIDTH), "float32"),
}


@dataclass(frozen=True)
class Section:
    """A part of a page in Markdown; the first ones have no title of their own."""

    title: str
    text: str


DATA_FLOW = "Data flow"
"""The title of the section that is a picture where there is something to draw it with."""


@dataclass(frozen=True)
class Page:
    """A component's page in parts, and the data flow that one of them pictures."""

    title: str
    sections: tuple[Section, ...]
    flow: DataFlow

    def markdown(self) -> str:
        """Return the whole page."""
        parts = [
            f"## {part.title}\n\n{part.text}" if part.title else part.text for part in self.sections
        ]
        return "\n\n".join([f"# {self.title}", *parts]) + "\n"


def page(name: str, used_by: Iterable[str] = (), speeds: Path | None = None) -> str:
    """Return the page of a component as one Markdown text; see ``page_of``."""
    return page_of(name, used_by, speeds).markdown()


def page_of(name: str, used_by: Iterable[str] = (), speeds: Path | None = None) -> Page:
    """Return the page of a component: what it does, its equations, data flow, parameters, cost, state and speed.

    Args:
        name: what designs call it.
        used_by: names of architectures that use it, which the palette does not know.
        speeds: the file that ``benchmarks/mixers.py`` wrote, if it ran.

    Raises:
        SpecError: there is no component of that name.
    """
    info = lookup(name)
    used = ", ".join(f"`{design}`" for design in used_by) or "none"
    flow = _flow(info)
    sections = [
        Section("", f"`{info.name}`, {_kind(info.kind)}. {info.summary}"),
        Section("", inspect.getdoc(info.cls) or ""),
        Section(DATA_FLOW, flow_picture(flow)),
        Section("Facts", "\n".join(f"- {fact}" for fact in _facts(info))),
        Section("Parameters", _parameters(info.cls.Params.model_json_schema())),
    ]
    if info.kind is Kind.TOKEN_MIXER:
        sections.append(Section("Speed", measured_speed(name, speeds)))
    sections.append(Section("", f"Presets that use it: {used}."))
    return Page(info.title, tuple(sections), flow)


def _kind(kind: Kind) -> str:
    return ("an " if kind is Kind.INPUT else "a ") + str(kind).replace("_", " ")


def _facts(info: ComponentInfo) -> Iterable[str]:
    cls, params = info.cls, info.cls.Params()
    context = _context(cls, params)
    least, most = cls.min_inputs, cls.max_inputs
    count = (
        str(least) if most == least else f"{least} or more" if most is None else f"{least}-{most}"
    )
    gives = TensorKind.LOGITS if info.kind is Kind.HEAD else cls.gives
    yield f"Reads {count} × {' or '.join(sorted(cls.accepts))}; gives {gives}."
    yield f"Cost in length: {info.cost}."
    yield {
        True: "Causal: a position sees nothing after it.",
        False: "Not causal: positions see later ones.",
        None: "Each position stands alone, or all are read at once.",
    }[cls.causal(params)]
    growing, fixed = cls.state_bytes_per_token(params, context), cls.state_bytes(params, context)
    yield (
        f"State while generating at width {WIDTH}: {format_bytes(fixed)} per sequence, and "
        f"{format_bytes(growing)} more per token."
    )
    with FakeTensorMode():
        weights = sum(weight.numel() for weight in cls(params, context).parameters())
    yield f"Weights at width {WIDTH}: {weights:,}."
    for told, words in ((cls.loops, "Loops over time"), (cls.graph_break, "Not one graph")):
        if told:
            yield f"{words}: {told}."
    yield f"Paper: <{info.paper}>"


def _context(cls: type[Component], params: Any) -> BuildContext:
    """Return inputs that a component accepts, at the page's width."""
    kind = sorted(cls.accepts)[0]
    shape, dtype = _EXAMPLES[kind]
    inputs = tuple(
        TensorType(kind, tuple(length if size == "L" else size for size in shape), dtype)
        for length in cls.input_lengths(params)
    )
    return BuildContext(inputs, WIDTH)


def _flow(info: ComponentInfo) -> DataFlow:
    """Watch a component at the page's width, with its default parameters, on one sequence of 4 positions.

    In float64, which no compiled form takes: a page does not wait for a compiler.
    """
    params = info.cls.Params()
    context = _context(info.cls, params)
    built = info.cls(params, context).double().eval()
    return data_flow(built, [_example(type_) for type_ in context.inputs])


def _example(type_: TensorType) -> torch.Tensor:
    known = {"B": 1, "L": 4}
    sizes = [size if isinstance(size, int) else known.get(size, 4) for size in type_.shape]
    return torch.zeros(sizes, dtype=torch.int64 if type_.dtype == "int64" else torch.float64)


def _parameters(schema: Mapping[str, Any]) -> str:
    properties: Mapping[str, Any] = schema.get("properties", {})
    if not properties:
        return "None."
    rows = ["| name | default | allowed | unit | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, item in properties.items():
        cells = (
            f"`{name}`",
            _value(item.get("default")),
            _allowed(item, schema.get("$defs", {})),
            item.get("unit", ""),
            item.get("description", ""),
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _allowed(item: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Write which values a parameter takes: its choices, or its range."""
    if "$ref" in item:
        item = definitions[item["$ref"].rpartition("/")[2]]
    if "anyOf" in item:
        return " or ".join(_allowed(choice, definitions) for choice in item["anyOf"])
    if "enum" in item or "const" in item:
        return ", ".join(_value(choice) for choice in item.get("enum", [item.get("const")]))
    kind = item.get("type", "")
    if kind == "boolean":
        return "yes, no"
    if kind == "null":
        return "empty"
    bounds = [
        f"{sign} {_value(item[key])}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in item
    ]
    return f"{kind} " + ", ".join(bounds) if bounds else str(kind)


def _value(value: Any) -> str:
    """Write a value as people do in a design."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
