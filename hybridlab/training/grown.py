"""What an architecture is once stages have added repeats to its groups: as data and as text. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybridlab.architecture import edit
from hybridlab.architecture.document import loads
from hybridlab.architecture.spec import Architecture, Node
from hybridlab.errors import HybridLabError
from hybridlab.training.part_spec import fits
from hybridlab.training.stage_spec import StageSpec


def added(ids: str, stages: Sequence[StageSpec]) -> int:
    """Return how many repeats stages add to the group at a path of ids, such as ``stage``."""
    return sum(count for stage in stages for match, count in stage.grow.items() if fits(ids, match))


def grown(architecture: Architecture, stages: Sequence[StageSpec]) -> Architecture:
    """Return an architecture with the repeats that stages add."""
    if not any(stage.grow for stage in stages):
        return architecture
    nodes = tuple(_grown(node, "", stages) for node in architecture.nodes)
    return architecture.model_copy(update={"nodes": nodes})


def _grown(node: Node, prefix: str, stages: Sequence[StageSpec]) -> Node:
    if not node.is_group:
        return node
    ids = f"{prefix}{node.id}"
    inner = tuple(_grown(one, f"{ids}.", stages) for one in node.nodes)
    return node.model_copy(update={"nodes": inner, "repeat": node.repeat + added(ids, stages)})


def grown_text(text: str, stages: Sequence[StageSpec]) -> str:
    """Return an architecture's text with the repeats that stages add; comments and order stay.

    Raises:
        SpecError: the text does not describe an architecture.
    """
    if not any(stage.grow for stage in stages):
        return text
    for path, ids, node in loads(text).walk():
        if node.is_group and (more := added(ids, stages)):
            text = edit.set_parameter(text, path, "repeat", node.repeat + more)
    return text


def trained_text(record: Mapping[str, Any]) -> str:
    """Return the text of the architecture that a training's final weights are of, from its run's record.

    That is the one it was started with, and what its stages have added; the folder's ``architecture.yaml`` says the
    same. A record that cannot be read gives its text as it is.
    """
    text = str(record.get("architecture", ""))
    training = record.get("training")
    listed = training.get("stages") if isinstance(training, Mapping) else None
    if not listed:
        return text
    try:
        return grown_text(text, [StageSpec.model_validate(stage) for stage in listed])
    except (ValueError, TypeError, HybridLabError):  # of a newer version, or no architecture
        return text
