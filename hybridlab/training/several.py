"""The objective of several tasks: a loss at each head, balanced, on a trunk that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, TaskError
from hybridlab.tasks.base import Batch, Task, stream
from hybridlab.tasks.fit_several import heads_of
from hybridlab.tasks.several import MEAN, SeveralBatch, SeveralTasks
from hybridlab.training.balancing import cagrad, pcgrad, uncertainty
from hybridlab.training.evaluation import evaluate
from hybridlab.training.objective import Objective
from hybridlab.training.precision import Numerics
from hybridlab.training.several_spec import OF_GRADIENTS, SeveralSpec
from hybridlab.training.spec import TrainSpec
from hybridlab.training.task_cosines import interval, loss_name, weight_name
from hybridlab.training.task_gradients import TaskGradients, Trunk
from hybridlab.training.task_weights import TaskWeights


def objective(model: nn.Module, task: Task, spec: TrainSpec, numerics: Numerics) -> Objective:
    """Return what a training makes small: one task's loss, or those of several tasks.

    Raises:
        TaskError: several tasks need a model that names its heads, as those that ``build`` returns do.
    """
    if spec.tasks is None or not isinstance(task, SeveralTasks):
        return Objective(model, task, numerics)
    return SeveralObjective(model, task, spec, spec.tasks, numerics)


class SeveralObjective(Objective):
    """Makes the losses of several tasks small; ``own`` keeps what balancing learns.

    Tasks that have their inputs in common are answered by one forward. The weight of a task in the settings multiplies
    its loss before anything is balanced.
    """

    own: TaskWeights

    def __init__(
        self,
        model: nn.Module,
        task: SeveralTasks,
        spec: TrainSpec,
        several: SeveralSpec,
        numerics: Numerics,
    ) -> None:
        """Find each task's head in a model; ``task`` stays as it is."""
        super().__init__(model, task, numerics)
        graph = next((m for m in model.modules() if isinstance(m, GraphModel)), None)
        if graph is None:
            raise TaskError(Problem("tasks", "need a model that is built from an architecture"))
        self.tasks, self.spec, self.graph = task, several, graph
        self.heads = heads_of(graph.architecture, task)
        slots = dict(graph.slots())
        self._ends = [slots[head] for head in self.heads]
        self.own = TaskWeights(len(task.parts), several).to(numerics.device)
        self._given = torch.tensor([part.weight for part in task.parts], device=numerics.device)
        self._every = interval(several, spec, len(task.parts))
        self._trunk: Trunk | None = None
        self._losses: list[Tensor | None] = []
        self._factors: Tensor | None = None
        self._cosines: dict[str, float] = {}

    def loss_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the tasks' losses on a batch on the device, and all that is made small."""
        assert isinstance(batch, SeveralBatch)
        losses, asked = self._forward(batch)
        total = torch.stack([self._given[place] * loss for place, loss in losses.items()]).sum()
        return total, total + asked if isinstance(asked, Tensor) else total

    def add_gradients(
        self, batch: Batch, parts: int = 1, scaler: torch.amp.GradScaler | None = None
    ) -> Tensor:
        """Add the balanced gradients of a batch, in parts; return the sum of the tasks' weighted losses (detached)."""
        assert isinstance(batch, SeveralBatch)
        self._trunk = self._trunk or Trunk(self.model, self.graph, self.heads)
        self.own.begin(batch.step)
        due = bool(self._every) and (batch.step + 1) % self._every == 0
        of_gradients = self.spec.balancing in OF_GRADIENTS
        self._cosines = {}
        if due and not of_gradients:
            self._measure(self._trunk, batch, parts)
        held = TaskGradients(self._trunk, len(self.heads)) if of_gradients else None
        factors = self.own.factors()
        sums: list[Tensor | None] = [None] * len(self.heads)
        answers = {place: max(1, int(one.mask.sum())) for place, one in batch.of}
        pieces = [batch] if parts == 1 else batch.split(parts)
        for piece in pieces:
            assert isinstance(piece, SeveralBatch)
            share = len(piece.inputs) / len(batch.inputs)
            counts = {place: int(one.mask.sum()) for place, one in piece.of}
            losses, asked = self._forward(piece.to(self.numerics.device))
            for place in losses:
                losses[place] = losses[place] * (counts[place] / answers[place])
                before, now = sums[place], losses[place].detach()
                sums[place] = now if before is None else before + now
            if held is not None:
                self._collect(held, losses, asked * share, scaler)
            else:
                self._backward(losses, asked * share, share, factors, scaler)
        present = torch.tensor([one is not None for one in sums], device=factors.device)
        told = torch.stack([factors.new_zeros(()) if one is None else one for one in sums])
        self.own.note(told * self._given, present)
        if held is not None:
            factors = self._combine(held, told * self._given, batch, scaler)
            self._cosines = held.cosines(self._names) if due else {}
        self._losses, self._factors = sums, factors * self._given
        return (told * self._given).sum()

    def told(self) -> dict[str, float]:
        """Return the last step's loss and weight of each task that it had, and cosines where they were measured."""
        found: dict[str, float] = {}
        if self._factors is not None:
            weights = self._factors.tolist()
            for name, loss, weight in zip(self._names, self._losses, weights, strict=True):
                if loss is not None:
                    found |= {loss_name(name): float(loss), weight_name(name): weight}
        found |= self._cosines
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def scores(
        self,
        splits: Sequence[str],
        at_once: int,
        task: Task,
        before_each: Callable[[], object] = lambda: None,
    ) -> dict[str, float]:
        """Return each task's metrics by its name (``val_accuracy_NAME``), the first's by their usual names too.

        ``val_accuracy_mean`` is the mean of the tasks' first splits, where all have one measure.
        """
        found: dict[str, float] = {}
        mains = []
        for place, part in enumerate(self.tasks.parts):
            task = part.task
            mine = task.val_splits if tuple(splits) == self.tasks.val_splits else task.test_splits
            scored = evaluate(_Answer(self, place), task, mine, self.numerics, at_once, before_each)
            if place == 0:
                found |= scored
            found |= {
                task.metric_name(f"{s}_{part.name}"): scored[task.metric_name(s)] for s in mine
            }
            mains.append(scored[task.metric_name(mine[0])])
        if self.tasks.main == MEAN:
            found[self.tasks.metric_name(splits[0])] = math.fsum(mains) / len(mains)
        return found

    @property
    def _names(self) -> list[str]:
        return [part.name for part in self.tasks.parts]

    @contextmanager
    def answers(self) -> Iterator[dict[int, Tensor]]:
        """Collect what the heads give in the forward that runs in here, by the place of the task."""
        found: dict[int, Tensor] = {}

        def keep(place: int) -> object:
            def hook(module: nn.Module, given: object, output: Tensor) -> None:
                found[place] = output.float() if self.numerics.dtype else output

            return hook

        handles = [end.register_forward_hook(keep(i)) for i, end in enumerate(self._ends)]  # type: ignore[arg-type]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    def _forward(self, batch: SeveralBatch) -> tuple[dict[int, Tensor], Tensor | float]:
        """Return the loss of each task present, and what components ask for, on a batch on the device."""
        alike: dict[int, list[tuple[int, Batch]]] = {}
        for place, one in batch.of:
            alike.setdefault(id(one.inputs), []).append((place, one))
        losses: dict[int, Tensor] = {}
        asked: Tensor | float = 0.0
        for group in alike.values():
            with self.answers() as given, self.numerics.autocast():
                self.model(group[0][1].inputs)
            for place, one in group:
                losses[place] = self.tasks.parts[place].task.loss(given[place], one)
            asked = asked + self._asked_with(dict(group)) / len(alike)
        return losses, asked

    def _asked_with(self, of: dict[int, Batch]) -> Tensor | float:
        """Return what components asked for in the last forward; exits learn the first task, where it is there."""
        if 0 in of:
            return self.asked(of[0])
        auxiliary = getattr(self.model, "aux_loss", None)
        wanted = auxiliary() if auxiliary is not None else None
        return 0.0 if wanted is None else wanted

    def _backward(
        self,
        losses: dict[int, Tensor],
        asked: Tensor | float,
        share: float,
        factors: Tensor,
        scaler: torch.amp.GradScaler | None,
    ) -> None:
        """Add the gradients of the losses, each times its weight."""
        places = list(losses)
        weighted = torch.stack([losses[place] for place in places]) * self._given[places]
        if self.own.log_variances is None:
            total = (weighted * factors[places]).sum()
        else:
            uncertain = self.own.log_variances[places]
            # The s / 2 of the whole step is shared out over its parts.
            total = uncertainty(weighted, uncertain) - (1 - share) * 0.5 * uncertain.sum()
        total = total + asked
        (scaler.scale(total) if scaler is not None else total).backward()  # type: ignore[no-untyped-call]

    def _collect(
        self,
        held: TaskGradients,
        losses: dict[int, Tensor],
        asked: Tensor | float,
        scaler: torch.amp.GradScaler | None,
    ) -> None:
        """Note each task's gradient of a part; what components ask for goes straight to the weights."""
        if isinstance(asked, Tensor) and asked.requires_grad:
            wanted = scaler.scale(asked) if scaler is not None else asked
            wanted.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        last = list(losses)[-1]
        for place, loss in losses.items():
            total = loss * self._given[place]
            held.add(place, scaler.scale(total) if scaler is not None else total, place != last)

    def _combine(
        self,
        held: TaskGradients,
        losses: Tensor,
        batch: SeveralBatch,
        scaler: torch.amp.GradScaler | None,
    ) -> Tensor:
        """Add the tasks' gradients to the weights as the balancing says; return by how much each counts (n)."""
        count = len(self.heads)
        alone = torch.ones(count)
        if self.spec.balancing == "gradnorm":
            together = alone = self.own.factors().cpu()
            norms = held.last_gram().diagonal().clamp(min=0).sqrt()
            size = scaler.get_scale() if scaler is not None else 1.0
            self.own.follow(norms.to(losses.device) / size, losses)
        elif self.spec.balancing == "pcgrad":
            drawn = stream("several", "pcgrad", batch.seed, batch.step)
            orders = [drawn.permutation(count).tolist() for _ in range(count)]
            together = pcgrad(held.gram(), orders)
        else:
            gram = held.gram()
            together = cagrad(gram, self.spec.cagrad_c) if bool(gram.isfinite().all()) else alone
        held.write(together, alone)
        return together.to(losses)

    def _measure(self, trunk: Trunk, batch: SeveralBatch, parts: int) -> None:
        """Measure the cosines of the tasks' gradients on the first part of a batch; the training notices nothing."""
        whole = dict(batch.of)
        for place in range(len(self.heads)):
            if place not in whole:
                size = len(batch.inputs)
                whole[place] = self.tasks.part_batch(place, batch.step, size, batch.seed)
        first = SeveralBatch(batch.inputs, batch.targets, tuple(sorted(whole.items())), 0, 0)
        piece = first.split(parts)[0].to(self.numerics.device)
        assert isinstance(piece, SeveralBatch)
        held = TaskGradients(trunk, len(self.heads), shared_only=True)
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        device = self.numerics.device
        devices = [] if device.type == "cpu" else [device]
        with torch.random.fork_rng(devices=devices, device_type=device.type):
            losses, _ = self._forward(piece)
            for place, loss in losses.items():
                held.add(place, loss, keep=True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        self._cosines = held.cosines(self._names)


class _Answer(nn.Module):
    """A model seen at one of its heads, every sample gone through to the end."""

    def __init__(self, of: SeveralObjective, place: int) -> None:
        super().__init__()
        self.model = of.model
        self.training = of.model.training
        self._answers, self._place = of.answers, place
        self._graph = [of.graph]  # in a list, so that it is not a part of this module twice

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the head."""
        (graph,) = self._graph
        before, graph.leaving = graph.leaving, False
        try:
            with self._answers() as given:
                self.model(x)
        finally:
            graph.leaving = before
        return given[self._place]
