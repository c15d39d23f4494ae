"""What is needed to build one component in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hybridlab.architecture.spec import Residual
from hybridlab.components.base import BuildContext, ComponentInfo
from hybridlab.components.types import TensorType


@dataclass(frozen=True)
class SlotPlan:
    """All that is needed to build one component: its entry, parameters, context, and how it is wrapped."""

    path: str
    file_path: str
    info: ComponentInfo
    params: Any
    context: BuildContext
    residual: Residual
    output: TensorType
    lora: int = 0
    """Rank of the low-rank pairs that this place alone has; 0: none."""
    norm: SlotPlan | None = None
    """The norm of the residual."""
