"""The losses of a student against its teacher: answers, hidden states, mixing matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def logits_loss(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Return T² KL(softmax(teacher / T) ‖ softmax(student / T)) in nats, the mean over the scored answers (scalar).

    Its gradient is that of the cross entropy with soft targets of https://arxiv.org/abs/1503.02531; the square keeps
    its size as the temperature changes (section 2 there).

    Args:
        student: logits (B, N) or (B, L, N).
        teacher: the same shape.
        mask: true where an answer is scored, (B) or (B, L).
        temperature: T, above 0.
    """
    wanted = F.log_softmax(teacher / temperature, dim=-1)
    given = F.log_softmax(student / temperature, dim=-1)
    each = F.kl_div(given, wanted, reduction="none", log_target=True).sum(-1)
    scored = mask.to(each.dtype)
    return temperature**2 * (each * scored).sum() / scored.sum().clamp(min=1)


def numbers_loss(student_B1: Tensor, teacher_B1: Tensor, mask_B: Tensor) -> Tensor:
    """Return the mean square of the difference over the scored answers (scalar), where answers are numbers.

    As https://arxiv.org/abs/1312.6184 has it for what comes before a softmax; both are in standard deviations.
    """
    square_B = (student_B1 - teacher_B1).square().squeeze(-1)
    scored_B = mask_B.to(square_B.dtype)
    return (square_B * scored_B).sum() / scored_B.sum().clamp(min=1)


def hidden_loss(student_BLD: Tensor, teacher_BLD: Tensor) -> Tensor:
    """Return the mean square of the difference over the mean square of the teacher's (scalar); 1 is as good as zeros.

    The mean square of the difference is that of https://arxiv.org/abs/1909.10351, the student's behind its
    projection; divided, one weight does for streams of any size.
    """
    teacher_BLD = teacher_BLD.to(student_BLD.dtype)
    size = teacher_BLD.square().mean().clamp(min=torch.finfo(teacher_BLD.dtype).tiny)
    return F.mse_loss(student_BLD, teacher_BLD) / size


def matrix_loss(student_BHLL: Tensor, teacher_BHLL: Tensor) -> Tensor:
    """Return the Frobenius norm of the difference, the mean over samples and heads (scalar).

    That of MOHAWK (https://arxiv.org/abs/2408.10189). Where heads differ in number, the mean of several stands for one.
    """
    student_BHLL, teacher_BHLL = same_heads(student_BHLL, teacher_BHLL)
    norms_BH: Tensor = torch.linalg.matrix_norm(student_BHLL - teacher_BHLL)
    return norms_BH.mean()


def same_heads(one_BHLL: Tensor, other_BGLL: Tensor) -> tuple[Tensor, Tensor]:
    """Return both with as many heads: means of neighbours where one number divides the other, else of all heads."""
    heads, others = one_BHLL.shape[1], other_BGLL.shape[1]
    few = min(heads, others)
    if max(heads, others) % few:
        few = 1
    return _means(one_BHLL, few), _means(other_BGLL, few)


def _means(matrix_BHLL: Tensor, heads: int) -> Tensor:
    if matrix_BHLL.shape[1] == heads:
        return matrix_BHLL
    return torch.unflatten(matrix_BHLL, 1, (heads, -1)).mean(2)
