"""An architecture as data: nodes, groups, and nothing that needs torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

INPUT = "input"
"""The reserved name by which nodes refer to what enters their group, or the architecture."""
MAX_REPEAT = 512
MAX_NODES = 2_000
MAX_DEPTH = 16
MAX_RANK = 4_096
NODE_KEYS = ("id", "use", "inputs", "nodes", "repeat", "tie", "share", "lora", "residual")
ARCHITECTURE_KEYS = ("name", "source", "description", "width", "norm", "norm_eps", "nodes")

Name = Annotated[str, Field(pattern=r"^[^\W\d][\w-]*$", min_length=1, max_length=64)]


class Residual(StrEnum):
    """Where a node's norm stands and whether its input is added to its output."""

    PRE = "pre"
    """x + f(norm(x))"""
    POST = "post"
    """norm(x + f(x))"""
    NONE = "none"
    """f(x)"""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Node(_Frozen):
    """A component with its parameters, or a group of nodes that may repeat.

    In a file the parameters stand beside ``use``; here they are gathered in ``params``. ``inputs`` is None for the node
    above; ``residual`` is None for the default of the component's kind (mixers: pre, others: none). ``share`` names the
    node whose weights this one uses, found like an input and from there inwards (``first.block``); ``lora`` is the rank
    of a low-rank pair of its own that each use of a component adds to the maps it shares.
    """

    id: Name
    use: str | None = Field(default=None, max_length=100)
    params: dict[str, Any] = Field(default_factory=dict)
    inputs: tuple[str, ...] | None = None
    nodes: tuple[Node, ...] = ()
    repeat: Annotated[int, Field(strict=True, ge=1, le=MAX_REPEAT)] = 1
    tie: Annotated[bool, Field(strict=True)] = False
    share: str | None = Field(default=None, min_length=1, max_length=1_000)
    lora: Annotated[int, Field(strict=True, ge=1, le=MAX_RANK)] | None = None
    residual: Residual | None = None

    @field_validator("id")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value == INPUT:
            raise ValueError(f"{INPUT!r} is reserved for what enters the group; choose another id")
        return value

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _component_or_group(self) -> Self:
        if (self.use is None) == (not self.nodes):
            raise ValueError(
                "a node needs either 'use' (a component) or a non-empty 'nodes' (a group)"
            )
        if self.use is not None and (self.repeat != 1 or self.tie):
            raise ValueError("'repeat' and 'tie' belong to groups; put this node into 'nodes'")
        if self.nodes and self.lora is not None:
            raise ValueError("'lora' belongs to components; write it at nodes in this group")
        if self.nodes and self.params:
            unknown = ", ".join(repr(key) for key in self.params)
            raise ValueError(
                f"unknown key {unknown}: a group takes only {', '.join(NODE_KEYS[2:])} and id"
            )
        if self.inputs is not None and not self.inputs:
            raise ValueError("'inputs' is empty; leave it out to read the node above")
        return self

    @property
    def is_group(self) -> bool:
        """Whether this node holds other nodes."""
        return bool(self.nodes)

    @property
    def adapts(self) -> bool:
        """Whether this node, or one in it, has weights for this use alone."""
        return self.lora is not None or any(node.adapts for node in self.nodes)

    @property
    def runs_again(self) -> bool:
        """Whether the same parts run once for each repeat; else repeats are written out, each under its number."""
        return self.tie and not self.adapts


class Architecture(_Frozen):
    """A named graph of components with a width D that its components share."""

    name: str = Field(min_length=1, max_length=200)
    source: str = Field(default="", max_length=500)
    description: str = Field(default="", max_length=2_000)
    width: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 64
    norm: str = Field(default="rms_norm", max_length=100)
    norm_eps: float | None = Field(default=None, gt=0, le=0.1)
    """What the norms of residuals add before the root; None for their own default."""
    nodes: tuple[Node, ...] = Field(min_length=1)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with anything that changes the model, and with nothing else."""
        content = self.model_dump(mode="json", exclude={"name", "source", "description"})
        _without_younger(content)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def walk(self) -> Iterator[tuple[str, str, Node]]:
        """Yield every node in reading order as (path in the file, path of ids, node), groups before their nodes."""
        yield from _walk(self.nodes, "nodes", "")


def _without_younger(content: dict[str, Any]) -> None:
    """Leave out unused keys that are younger than the first fingerprints, which must not change."""
    for key in ("norm_eps", "share", "lora"):
        if key in content and content[key] is None:
            del content[key]
    for node in content["nodes"]:
        _without_younger(node)


def _walk(nodes: tuple[Node, ...], file_path: str, ids: str) -> Iterator[tuple[str, str, Node]]:
    for index, node in enumerate(nodes):
        here, named = f"{file_path}[{index}]", f"{ids}{node.id}"
        yield here, named, node
        yield from _walk(node.nodes, f"{here}.nodes", f"{named}.")
