"""What an instruction is, wherever it stands: the key by which its recordings are remembered."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hybridlab.architecture.infer import Inference
from hybridlab.architecture.model import Slot
from hybridlab.architecture.plan import SlotPlan
from hybridlab.architecture.program import Beside, Instruction, run_one
from hybridlab.architecture.spec import Residual
from hybridlab.components.base import BuildContext
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorType
from hybridlab.planning.segments.alone import record_alone
from hybridlab.planning.segments.record import Asked, Given, Segment


@dataclass(frozen=True)
class Kind:
    """What an instruction is, wherever it stands; ``order`` are the numbers of the inputs that it reads, in order."""

    form: Literal["component", "opens", "closes", "stretch"]
    use: str
    params_json: str
    context: BuildContext | None
    residual: Residual
    norm: str
    norm_eps: float | None
    output: TensorType | None
    lora: int
    learns: tuple[bool, ...]
    order: tuple[int, ...]

    def instruction(self) -> Instruction:
        """Build it; called among fake tensors."""
        module: nn.Module | None = None
        if self.context is not None and self.output is not None:
            info = palette()[self.use]
            params = info.cls.Params.model_validate_json(self.params_json)
            plan = SlotPlan(
                "", "", info, params, self.context, self.residual, self.output, self.lora
            )
            if self.form == "component":
                module = Slot(plan, self.norm, self.norm_eps)
            else:
                module = info.cls(params, self.context)
            for parameter, learns in zip(module.parameters(), self.learns, strict=True):
                parameter.requires_grad_(learns)
        return Instruction("", "", self.form, module, self.order, 0)


@functools.lru_cache(maxsize=512)
def recorded(
    kind: Kind, inputs: tuple[Given, ...], asked: Asked | None, cast: torch.dtype | None = None
) -> Segment:
    """Record an instruction alone, or return what is remembered of it; called among fake tensors.

    ``cast`` is the type of autocast around it; None is plain float32.

    Raises:
        UnusualError: it cannot be told alone.
    """
    one = kind.instruction()

    def run(values: list[Tensor], beside: Beside) -> Tensor:
        given = [values[number] for number in kind.order]
        values.clear()
        return run_one(one, given, beside)

    return record_alone(one.module, run, inputs, asked, cast=cast)


def kind_of(
    one: Instruction,
    inference: Inference,
    norm: str,
    norm_eps: float | None,
    order: tuple[int, ...],
) -> Kind:
    """Return what an instruction of a model is."""
    module = one.module
    learns = () if module is None else tuple(p.requires_grad for p in module.parameters())
    plans: Mapping[str, SlotPlan] = (
        inference.slots if one.form == "component" else inference.group_norms
    )
    plan = plans.get(one.path) if module is not None else None
    if plan is None:
        return Kind(one.form, "", "", None, Residual.NONE, "", None, None, 0, learns, order)
    around = (norm, norm_eps) if one.form == "component" else ("", None)
    return Kind(
        *(one.form, plan.info.name, plan.params.model_dump_json(), plan.context, plan.residual),
        *around,
        plan.output,
        plan.lora,
        learns,
        order,
    )
