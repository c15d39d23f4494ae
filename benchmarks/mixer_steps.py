"""What one more token takes after 8, 64, 512 and 4,096 others, mixer by mixer."""

from __future__ import annotations

import torch
from mixer_lines import StepRow
from mixer_timing import median_step_ms

from hybridlab.components.base import Component
from hybridlab.errors import StepError

ROUNDS, REPEATS = 15, 8


@torch.no_grad()
def steps_of(
    label: str, module: Component, positions: list[int], batch: int, device: torch.device
) -> StepRow | None:
    """Walk to each position and time the step after it, in turns; None for what cannot step.

    A state that a step has read stays valid, so the same step can be taken again and again. From which position on the
    state has its full size (a window's cache is full) is seen from its bytes.
    """
    inputs = [torch.randn(batch, kind.features, device=device) for kind in module.context.inputs]
    state, runs, held = module.start(batch), {}, {}
    try:
        for position in range(1, max(positions) + 1):
            _, state = module.step(state, *inputs)
            if position in positions:

                def run(state=state) -> None:
                    module.step(state, *inputs)
                    if device.type != "cpu":
                        torch.accelerator.synchronize()

                runs[position] = run
                held[position] = sum(part.nbytes for part in state)
    except StepError:
        return None
    grows = module.state_bytes_per_token(module.params, module.context) > 0
    full_from = min(at for at in held if held[at] == held[max(held)])
    return StepRow(label, median_step_ms(runs, ROUNDS, REPEATS), grows, full_from)
