"""Collects what a training tells about itself and hands it on in time, without waiting for the device at every step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from hybridlab.training.non_finite import NotFiniteError
from hybridlab.training.spikes import Spike, SpikeWatch

OnMetrics = Callable[[int, dict[str, float]], None]
DELAY_SECONDS = 0.04
"""Longest time that the metrics of a step may stay on an accelerator; a CPU's go at once."""
RATE_SECONDS = 0.5


class Meter:
    """Holds the losses of recent steps as tensors and turns them into numbers together.

    A loss or gradient that is not finite ends the training here, before a checkpoint can keep it.
    """

    def __init__(self, on_metrics: OnMetrics, *, every: int, device: torch.device) -> None:
        """Hand on every ``every``-th step's metrics."""
        self._on_metrics = on_metrics
        self._every = every
        self._at_once = device.type == "cpu"
        self._waiting: list[tuple[int, Mapping[str, float], Tensor, Tensor]] = []
        self._flushed = self._rated = time.monotonic()
        self._samples = 0
        self.watch = SpikeWatch()
        self.on_spike: Callable[[Spike], None] = lambda spike: None
        """Is told of a loss that shot up; what it raises ends the step."""
        self.checkpoint_step: int | None = None
        """The step of the last checkpoint, for the message about a loss that is not finite."""

    def step(
        self, step: int, loss: Tensor, norm: Tensor, rates: Mapping[str, float], samples: int
    ) -> None:
        """Note one update: its loss and gradient norm (scalars, on the device), learning rates by group, samples."""
        self._samples += samples
        self._waiting.append((step, rates, loss, norm))
        if self._at_once or time.monotonic() - self._flushed > DELAY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand on what waits.

        Raises:
            NotFiniteError: a loss or gradient was not finite; it names the step.
        """
        self._flushed = time.monotonic()
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        if self._at_once:
            values = [(float(loss), float(norm)) for _, _, loss, norm in waiting]
        else:
            pairs = [torch.stack([loss.float(), norm.float()]) for _, _, loss, norm in waiting]
            values = [(loss, norm) for loss, norm in torch.stack(pairs).tolist()]
        for (step, rates, _, _), (loss, norm) in zip(waiting, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise NotFiniteError(step, max(rates.values()), loss, norm, self.checkpoint_step)
            if spike := self.watch.note(step, loss):
                self._on_metrics(step, {"loss_spike": spike.now / spike.before})
                self.on_spike(spike)
            if step % self._every == 0:
                self._on_metrics(step, {"loss": loss, "grad_norm": norm, **_named(rates)})
        elapsed = self._flushed - self._rated
        if elapsed > RATE_SECONDS:
            self._on_metrics(waiting[-1][0], {"samples_per_s": self._samples / elapsed})
            self._samples, self._rated = 0, self._flushed

    def forget(self) -> None:
        """Drop what waits: the training goes back to before it."""
        self._waiting.clear()

    def tell(self, step: int, metrics: dict[str, float]) -> None:
        """Hand on what else is to be told of a step, after its own metrics: what components do, what happened."""
        self.flush()
        self._on_metrics(step, metrics)

    def pause(self) -> None:
        """Leave the time since the last rate out of it: something other than training went on."""
        self._samples, self._rated = 0, time.monotonic()

    def scores(self, step: int, metrics: dict[str, float], model: nn.Module) -> None:
        """Hand on validation metrics, and what the components tell of their last forward."""
        self.flush()
        self._on_metrics(step, {**metrics, **told(model)})
        self.pause()


def _named(rates: Mapping[str, float]) -> dict[str, float]:
    """Return learning rates as metrics: one alone has no group in its name."""
    if len(rates) == 1:
        return {"learning_rate": next(iter(rates.values()))}
    return {f"learning_rate/{name}": rate for name, rate in rates.items()}


def told(model: nn.Module) -> dict[str, float]:
    """Return the numbers that components report of their last forward, as ``path.name`` and ``path.name.0``."""
    reports = getattr(model, "reports", None)
    flat: dict[str, float] = {}
    for path, report in (reports() if reports is not None else {}).items():
        for name, value in report.items():
            if isinstance(value, list):
                flat |= {f"{path}.{name}.{index}": float(item) for index, item in enumerate(value)}
            else:
                flat[f"{path}.{name}"] = float(value)
    return flat
