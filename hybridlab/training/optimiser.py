"""AdamW, with weight decay only where it belongs, and gradients clipped by their common norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hybridlab.training.spec import TrainSpec

_FUSED_DEVICES = frozenset({"cpu", "cuda", "xpu", "mps"})


def decayed(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trainable parameters with weight decay, and those without, each once and in the model's order.

    Without are vectors and scalars (norms, biases, rates), embeddings, and whatever a component marks with
    ``_no_weight_decay`` (a state-space model's A and step sizes).
    """
    judge = spared(model)
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[judge(parameter)].append(parameter)
    return groups


def spared(model: nn.Module) -> Callable[[nn.Parameter], bool]:
    """Return what says whether a weight of a model is not decayed; see ``decayed``."""
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }

    def judge(parameter: nn.Parameter) -> bool:
        return (
            parameter.ndim < 2
            or id(parameter) in embeddings
            or bool(getattr(parameter, "_no_weight_decay", False))
        )

    return judge


def adamw(
    model: nn.Module, spec: TrainSpec, beside: Sequence[nn.Parameter] = ()
) -> torch.optim.AdamW:
    """Return AdamW (https://arxiv.org/abs/1711.05101) over the model, in its fused form where the device has one.

    ``beside`` are more weights, not decayed.
    """
    with_decay, without = decayed(model)
    without += beside
    groups = [
        {"params": with_decay, "weight_decay": spec.weight_decay},
        {"params": without, "weight_decay": 0.0},
    ]
    fused, foreach = fused_or_foreach(with_decay + without)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=spec.learning_rate,
        betas=spec.betas,
        fused=fused,
        foreach=foreach,
    )


def fused_or_foreach(parameters: Sequence[nn.Parameter]) -> tuple[bool, bool | None]:
    """Return which form of AdamW suits these weights, as its arguments ``fused`` and ``foreach``."""
    fused = all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for p in parameters)
    return fused, None if fused else True


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together (scalar, on the device; nothing waits for it)."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def clip(parameters: Sequence[Tensor], norm: Tensor, largest: float) -> None:
    """Scale all gradients so that their common ``norm`` is at most ``largest``; 0 leaves them alone."""
    if largest <= 0 or (norm.device.type == "cpu" and float(norm) <= largest):
        return
    torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
