"""How residual branches start: the weights of their last maps made smaller, or zero, before the first update.

Depth-scaled is GPT-2's 1 / sqrt(number of residuals) (https://cdn.openai.com/better-language-models/
language_models_are_unsupervised_multitask_learners.pdf); zero is Fixup's (https://arxiv.org/abs/1901.09321), and in
its effect ReZero's and SkipInit's (https://arxiv.org/abs/2003.04887, https://arxiv.org/abs/2002.10444).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, SpecError
from hybridlab.training.part_spec import fits
from hybridlab.training.spec import TrainSpec


def starts_otherwise(spec: TrainSpec) -> bool:
    """Say whether anything starts otherwise than it is drawn."""
    return spec.residual_init != "default" or spec.residual_scale != 1.0


@torch.no_grad()
def start(model: nn.Module, spec: TrainSpec) -> list[str]:
    """Scale the last maps of residual branches as the settings say, what is shared once; nothing is drawn anew.

    A resumed training takes its weights from its checkpoint afterwards.

    Returns:
        The components asked for that have no last map, which stay as they are.

    Raises:
        SpecError: none of the components asked for has a residual and a last map.
    """
    if not starts_otherwise(spec):
        return []
    running = list(model.root.in_running_order()) if isinstance(model, GraphModel) else []
    residuals = [slot for slot in running if slot.residual != "none"]
    factor = spec.residual_scale
    if spec.residual_init != "default":
        depth = 1 / math.sqrt(max(1, len(residuals)))
        factor *= 0.0 if spec.residual_init == "zero" else depth
    scaled: set[int] = set()
    without: list[str] = []
    for slot in {slot.path: slot for slot in residuals}.values():
        if not fits(slot.path, spec.residual_parts):
            continue
        names = slot.body.output_weights()
        if not names:
            without.append(slot.path)
        for name in names:
            parameter = slot.body.get_parameter(name)
            if id(parameter) not in scaled:
                scaled.add(id(parameter))
                parameter.mul_(factor)
    if not scaled:
        paths = ", ".join(dict.fromkeys(slot.path for slot in residuals)) or "none here"
        raise SpecError(
            Problem(
                "residual_parts",
                "fits no component that has a residual around it and a last map",
                f"components such as {paths}"[:300],
                repr(spec.residual_parts),
                "set residual_init and residual_scale back, or name other components",
            )
        )
    return without
