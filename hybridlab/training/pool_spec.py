"""Which components get a memory pool of their own on an accelerator. Free of torch, so that pages may read it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hybridlab.training.part_spec import PartSpec
from hybridlab.training.setting import setting


class PoolSpec(PartSpec):
    """Some components and the pool that their tensors come from.

    A component belongs to the first pool that takes it. A pool takes what fits all of ``match``, ``use``, ``kind`` and
    ``depth``; what no pool takes stays with torch's own.
    """

    backward: Annotated[bool, Field(strict=True)] = setting(
        "Take what their backward makes from the pool too; costs the host two calls for each of autograd's nodes.",
        False,
    )
