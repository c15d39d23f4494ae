"""Three-way merge: two versions of a design against the text both began with, node by node. Free of torch.

What only one side changed is taken; where both changed the same thing in different ways there is a conflict, which
somebody chooses, and until then mine stands. A node that one side removed and the other changed is a conflict too, so
that nothing goes unseen. Nodes are matched as the comparison matches them: by id, then by likeness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hybridlab.architecture.document import loads
from hybridlab.architecture.merging.choices import Choices, Conflict
from hybridlab.architecture.merging.parts import Part, Parts, Side
from hybridlab.architecture.merging.places import decide_parents, ordered
from hybridlab.architecture.merging.presence import decide_presence, decide_values
from hybridlab.architecture.merging.reads import decide_reads, name
from hybridlab.architecture.merging.text import as_text
from hybridlab.architecture.spec import ARCHITECTURE_KEYS, Architecture, Node

__all__ = ["Conflict", "Merged", "Side", "merge"]


@dataclass(frozen=True)
class Merged:
    """What a merge came to; conflicts that nobody has chosen yet stand as mine."""

    architecture: Architecture
    text: str
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...]
    """What was settled by itself in a way that somebody may want to know."""


def merge(base: str, mine: str, theirs: str, choices: Mapping[str, Side] | None = None) -> Merged:
    """Merge two texts that both began as ``base``; ``choices`` says by a conflict's key whose side is taken.

    Comments are those of mine, and those of theirs at the nodes that only they have.

    Raises:
        SpecError: one of the texts is no architecture, or both together are too large for one.
    """
    versions = (loads(base), loads(mine), loads(theirs))
    chosen = Choices(choices or {})
    architecture, top = _merged(*versions, chosen)
    texts = [(mine, versions[1]), (theirs, versions[2])]
    text = as_text(architecture, top, texts, first=texts[mine == base])
    return Merged(architecture, text, tuple(chosen.conflicts.values()), tuple(chosen.notes))


def _merged(
    base: Architecture, mine: Architecture, theirs: Architecture, choices: Choices
) -> tuple[Architecture, list[Part]]:
    """Return the merged architecture and its nodes, which know where they come from."""
    fields = {
        key: choices.three(
            key, key, "the architecture", *(getattr(one, key) for one in (base, mine, theirs))
        )
        for key in ARCHITECTURE_KEYS
        if key != "nodes"
    }
    parts = Parts(base, mine, theirs)
    decide_presence(parts, choices)
    for part in parts.present():
        decide_values(parts, choices, part)
    decide_parents(parts, choices)
    top = ordered(parts, choices)
    if not top:
        sentence = "the architecture: you and the other each removed what the other one kept."
        side = choices.choose("nodes", sentence, "all as you have it", "all as the other has it")
        return (mine if side == "mine" else theirs), []
    name(top, choices)
    decide_reads(top, parts, choices)
    return Architecture(**fields, nodes=tuple(map(_node, top))), top


def _node(part: Part) -> Node:
    reads = part.values["inputs"]
    return Node(
        id=part.id,
        use=part.values["use"],
        params=part.params,
        inputs=reads and tuple(one.id if isinstance(one, Part) else one for one in reads),
        residual=part.values["residual"],
        repeat=part.values["repeat"],
        tie=part.values["tie"],
        share=part.values["share"],
        lora=part.values["lora"],
        nodes=tuple(map(_node, part.children)),
    )
