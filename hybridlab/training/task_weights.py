"""What balancing keeps between steps: uncertainties that are learnt, weights and losses that are followed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridlab.training.balancing import dynamic_weights, gradnorm_gradient, gradnorm_step
from hybridlab.training.several_spec import SeveralSpec


class TaskWeights(nn.Module):
    """The weight of each of n tasks, and all that it depends on, as tensors that a checkpoint keeps to the bit.

    Uncertainties (s = log σ²) are a parameter, which the loop optimises; the rest are buffers, moved here.
    """

    log_variances: nn.Parameter | None
    weights: Tensor
    """(n), of GradNorm and of dynamic weight average; 1 each at first."""
    first: Tensor
    """(n), the losses of the first step; not a number until then."""
    spans: Tensor
    """(3, n): mean losses of the last span of steps, and this one's sums and counts."""

    def __init__(self, count: int, spec: SeveralSpec) -> None:
        """Begin with weights of 1 for ``count`` tasks."""
        super().__init__()
        self.spec = spec
        learnt = nn.Parameter(torch.zeros(count)) if spec.balancing == "uncertainty" else None
        self.register_parameter("log_variances", learnt)
        self.register_buffer("weights", torch.ones(count))
        self.register_buffer("first", torch.full((count,), torch.nan))
        spans = torch.zeros(3, count)
        spans[0] = torch.nan
        self.register_buffer("spans", spans)

    def factors(self) -> Tensor:
        """Return what each loss is multiplied by at the next step (n), without gradient."""
        if self.log_variances is not None:
            return torch.exp(-self.log_variances.detach())
        return self.weights.clone()

    @torch.no_grad()
    def begin(self, step: int) -> None:
        """Be ready for the update that follows ``step`` updates: a new span may begin."""
        if self.spec.balancing != "dwa" or not step or step % self.spec.dwa_every:
            return
        last, total, count = self.spans.clone()
        seen = torch.where(count > 0, total / count.clamp(min=1), last)
        self.spans.copy_(torch.stack([seen, 0 * count, 0 * count]))
        if bool((torch.stack([last, seen]).isfinite() & (last > 0)).all()):
            self.weights.copy_(dynamic_weights(last, seen, self.spec.dwa_temperature))

    @torch.no_grad()
    def note(self, losses: Tensor, present: Tensor) -> None:
        """Take the losses of a step (n) of those tasks that were ``present`` (n, bool)."""
        losses = torch.where(present, losses.detach().float(), 0.0)
        self.spans[1] += losses
        self.spans[2] += present
        self.first.copy_(torch.where(present & self.first.isnan(), losses, self.first))

    @torch.no_grad()
    def follow(self, norms: Tensor, losses: Tensor) -> None:
        """Move GradNorm's weights after a step with these gradient norms and losses (n), all tasks present."""
        given = (self.weights, norms.float(), losses.detach().float(), self.first)
        gradient = gradnorm_gradient(*given, self.spec.gradnorm_alpha)
        if bool(gradient.isfinite().all()):
            self.weights.copy_(gradnorm_step(self.weights, gradient, self.spec.gradnorm_rate))
