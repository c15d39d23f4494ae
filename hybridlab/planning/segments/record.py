"""What is known of an instruction that was recorded alone, and of the tensors that it is given. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from hybridlab.planning.plain_step import Ints

LEFT, IN_FORWARD, IN_BACKWARD, AT_END, NEVER = range(5)
"""Until when something is held: its part, a tick of forward, one of backward, the end of backward, for good."""
Until = tuple[int, int]
"""One of these, and the tick after the part's start."""


Made = tuple[Ints, Ints, Ints, int]
"""Bytes of storages, when they are born and when they die (-1: never), and the ticks that all takes."""


@dataclass(frozen=True)
class Meta:
    """A tensor without its values: ``bytes`` are those of its whole storage, of which it may be a part."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    bytes: int


@dataclass(frozen=True)
class Given:
    """A tensor that is given: those of one ``storage`` number lie in one storage, those of one ``tensor`` are one.

    ``needs`` says whether a gradient is wanted of it; ``beside`` whether somebody else holds it too.
    """

    meta: Meta
    storage: int
    tensor: int
    needs: bool = True
    beside: bool = False


@dataclass(frozen=True)
class Asked:
    """What an instruction is given in backward: gradients of its outputs, and those that its inputs have already.

    None: there is none. ``weights`` are the names of weights that have a gradient already.
    """

    outputs: tuple[Given | None, ...]
    inputs: tuple[Given | None, ...]
    weights: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reference:
    """Where a tensor lies: ``of`` the instruction's own storages ("ahead", "back"), its inputs or given gradients.

    ``of`` "before" is what was there without it, such as its weights.
    """

    of: str
    number: int


BEFORE = Reference("before", 0)


@dataclass(frozen=True)
class Part:
    """What happens in one direction: ticks that it takes, storages made in it, and operators in it.

    ``until`` (2, storages) says until when each storage is held by the instruction itself.
    """

    ticks: int
    bytes: Ints
    born: Ints
    until: Ints
    row_ticks: Ints
    row_flops: Ints
    row_moved: Ints


@dataclass(frozen=True)
class Segment:
    """A recorded instruction.

    ``answered`` is what its backward was given. ``outputs`` are its output and the losses that it asks for, each with
    whether it needs a gradient; the output is the very input ``same_as``, where it is one. ``kept`` has (tick,
    reference) of all that autograd keeps. ``inputs_until`` goes by the storage number of inputs, ``gradients`` by
    input, ``gradients_until`` by the storage number of gradients that were given. ``weights`` are new gradients of
    weights by name, None where an old one was added to. ``update`` is what the component moves behind an update.
    """

    answered: Asked | None
    ahead: Part
    back: Part | None
    outputs: tuple[tuple[Reference, Meta, bool], ...]
    same_as: int | None
    kept: tuple[tuple[int, Reference], ...]
    inputs_until: dict[int, Until]
    gradients: tuple[tuple[Reference, Meta] | None, ...] = ()
    gradients_until: dict[int, Until] = field(default_factory=dict)
    weights: dict[str, Reference | None] = field(default_factory=dict)
    weights_until: dict[str, Until] = field(default_factory=dict)
    update: Made | None = None
    there_bytes: int = 0
    held: str = ""


class UnusualError(Exception):
    """Something of an instruction depends on what cannot be told of it alone; the whole step has to be traced."""
