"""Learning from a teacher: its answers, its hidden states and how it mixes positions, all at once or in phases."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel, Slot
from hybridlab.errors import Problem, RunError
from hybridlab.tasks.base import Batch, Task
from hybridlab.training.hidden_states import Seen, watching
from hybridlab.training.objective import Objective
from hybridlab.training.pairs import Pair, paired
from hybridlab.training.precision import Numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.training.teacher import find_teacher
from hybridlab.training.teacher_cache import TeacherCache
from hybridlab.training.teacher_losses import (
    hidden_loss,
    logits_loss,
    matrix_loss,
    numbers_loss,
)
from hybridlab.training.teacher_spec import Loss
from hybridlab.training.weights import weights_sha256

MOST_BLOCK = 64
"""Most samples that the teacher is asked about at once for its cache."""
_END_TO_END = frozenset({"hard", "logits"})


class Distillation(Objective):
    """Make small how a student differs from its teacher, and what it answers wrongly.

    The teacher evaluates on the student's device, without gradients. What the student learns beside its weights are
    maps from its widths to the teacher's. Phases count this objective's own steps, which checkpoints keep.
    """

    def __init__(
        self, model: nn.Module, task: Task, spec: TrainSpec, numerics: Numerics, folder: Path
    ) -> None:
        """Load the teacher and pair its components with the student's.

        Raises:
            SpecError: the teacher is not there, does not fit the task, or its components not those of the student.
        """
        super().__init__(model, task, numerics)
        assert spec.teacher is not None
        self.spec = spec.teacher
        self.teacher = find_teacher(self.spec, task).build(task, numerics.device)
        self.pairs = paired(self.teacher, model, self.spec)
        if self.spec.copy_weights and isinstance(model, GraphModel):
            copy_alike(self.teacher, model)
        self.own = projections(self.pairs, spec.seed) if self.spec.hidden is not None else None
        if self.own is not None:
            self.own.to(numerics.device)
        self.step = 0
        self.digest = weights_sha256(self.teacher)
        self._student = {str(place): pair.student for place, pair in enumerate(self.pairs)}
        self._theirs = {str(place): pair.teacher for place, pair in enumerate(self.pairs)}
        self._cache = self._cached(spec, folder)
        self._places: list[int] | None = None
        self._terms: dict[str, list[Tensor]] = {}

    def add_gradients(
        self, batch: Batch, parts: int = 1, scaler: torch.amp.GradScaler | None = None
    ) -> Tensor:
        """Add the gradients of a batch, as ``Objective`` does; then the next step begins."""
        self._terms = {}
        self._places = self._cache.places(batch.inputs) if self._cache is not None else None
        try:
            loss = super().add_gradients(batch, parts, scaler)
        finally:
            self._places = None
        self.step += 1
        return loss

    def loss_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the task's loss on a batch on the device, and what the step's phase makes small (scalars)."""
        return self._loss(batch, self.spec.losses_at(self.step))

    def foreseen(self, batch: Batch) -> Tensor:
        """Return all losses of all phases together, so that the memory of the largest step is known beforehand."""
        return self._loss(batch, self.spec.active)[1]

    def bytes_beside(self, batch: Batch) -> int:
        """Return the bytes that the teacher's forward takes and gives back: those around its largest component.

        Its weights are in memory already, and so not free any more.
        """
        slots = dict(self.teacher.slots())
        with torch.no_grad(), self.numerics.autocast(), watching(slots) as seen:
            self.teacher(batch.inputs)
        return max(map(_bytes_around, seen.values()))

    def told(self) -> dict[str, float]:
        """Return each loss of the last step, before its weight, and the phase (from 1) where there are several."""
        found = {f"distill_{name}": _mean(values) for name, values in self._terms.items()}
        if self.spec.phases:
            found["distill_phase"] = 1.0 + self.spec.phase_at(self.step - 1)
        return found

    def begun(self, steps: int) -> int | None:
        """Return the place of the phase that begins after so many steps; None where none does."""
        begins = self.spec.begins()
        return begins.index(steps) if steps and steps in begins else None

    def state(self) -> dict[str, Any]:
        """Return the steps made and who taught."""
        return {"step": self.step, "teacher": self.digest}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to the step of a checkpoint.

        Raises:
            RunError: another teacher taught until then.
        """
        if state.get("teacher") != self.digest:
            raise RunError(
                Problem(
                    "teacher",
                    "its weights are not those that taught until the checkpoint",
                    "the same teacher",
                    fix="put its weights back, or start a new run",
                )
            )
        self.step = int(state["step"])

    def _loss(self, batch: Batch, losses: frozenset[Loss]) -> tuple[Tensor, Tensor]:
        compares = not losses <= _END_TO_END
        said = self._said(batch, losses)
        with self.numerics.autocast(), watching(self._student if compares else {}) as seen:
            output = self.model(batch.inputs)
        output = output.float() if self.numerics.dtype else output
        hard = self.task.loss(output, batch)
        terms: dict[str, tuple[float, Tensor]] = {}
        if "hard" in losses:
            terms["hard"] = self.spec.hard, hard
        if "logits" in losses and (soft := self.spec.logits) is not None:
            wanted = said["logits"].to(output.dtype)
            if self.task.measure == "mean_abs_error":
                loss = numbers_loss(output, wanted, batch.mask)
            else:
                loss = logits_loss(output, wanted, batch.mask, soft.temperature)
            terms["logits"] = soft.weight, loss
        if compares:
            terms |= self._of_parts(seen, said, losses)
        for name, (_, value) in terms.items():
            self._terms.setdefault(name, []).append(value.detach())
        total = torch.stack([weight * value for weight, value in terms.values()]).sum()
        if losses & _END_TO_END:
            total = total + self.asked(batch)
        return hard, total

    def _of_parts(
        self, seen: Mapping[str, Seen], said: Mapping[str, Tensor], losses: frozenset[Loss]
    ) -> dict[str, tuple[float, Tensor]]:
        """Return the losses of components by name, each with its weight: means over the pairs."""
        hidden, matrices = [], []
        for place, pair in enumerate(self.pairs):
            here = seen[str(place)]
            inputs = range(len(here.given)) if self._feeds else ()
            fed = tuple(said[f"given.{place}.{k}"] for k in inputs)
            with self.numerics.autocast():
                if "hidden" in losses:
                    gave = pair.student(*fed) if fed else here.gave
                    assert gave is not None
                    name = str(place)
                    if isinstance(self.own, nn.ModuleDict) and name in self.own:
                        gave = self.own[name](gave)
                    hidden.append(hidden_loss(gave.float(), said[f"hidden.{place}"].float()))
                if "matrices" in losses and pair.matrices:
                    read = _normed(pair.student, fed) if fed else here.read
                    own = pair.student.body.mixing_matrix(*read)
                    assert own is not None
                    matrices.append(matrix_loss(own.float(), said[f"matrix.{place}"].float()))
        found = {}
        if hidden and self.spec.hidden is not None:
            found["hidden"] = self.spec.hidden.weight, torch.stack(hidden).mean()
        if matrices and self.spec.matrices is not None:
            found["matrices"] = self.spec.matrices.weight, torch.stack(matrices).mean()
        return found

    @property
    def _feeds(self) -> bool:
        return self.spec.feed == "teacher"

    def _said(self, batch: Batch, losses: frozenset[Loss]) -> dict[str, Tensor]:
        """Return what the teacher says of a batch, on its device: from the cache where its samples are known."""
        names = self._names(losses)
        if not names:
            return {}
        if self._places is not None and self._cache is not None:
            count = len(batch.inputs)
            mine, self._places = self._places[:count], self._places[count:]
            if (kept := self._cache.answers(mine, names)) is not None:
                device = batch.inputs.device
                return {name: tensor.to(device) for name, tensor in kept.items()}
        return self._ask(batch.inputs, names)

    def _names(self, losses: frozenset[Loss]) -> frozenset[str]:
        """Return what must be known of the teacher for some losses."""
        names = {"logits"} if "logits" in losses else set()
        for place, pair in enumerate(self.pairs):
            if "hidden" in losses:
                names.add(f"hidden.{place}")
            if "matrices" in losses and pair.matrices:
                names.add(f"matrix.{place}")
            if self._feeds and losses & {"hidden", "matrices"}:
                inputs = len(self.teacher.inference.slots[pair.teacher.path].context.inputs)
                names |= {f"given.{place}.{k}" for k in range(inputs)}
        return frozenset(names)

    @torch.no_grad()
    def _ask(self, inputs: Tensor, names: frozenset[str]) -> dict[str, Tensor]:
        """Run the teacher; return what it says by name, in float32, on the device of the inputs."""
        device = self.numerics.device
        with self.numerics.autocast(), watching(self._theirs) as seen:
            output = self.teacher(inputs.to(device))
            found = {"logits": output}
            for place, pair in enumerate(self.pairs):
                here = seen[str(place)]
                assert here.gave is not None
                found[f"hidden.{place}"] = here.gave
                found |= {f"given.{place}.{k}": given for k, given in enumerate(here.given)}
                if f"matrix.{place}" in names:
                    matrix = pair.teacher.body.mixing_matrix(*here.read)
                    assert matrix is not None
                    found[f"matrix.{place}"] = matrix
        return {name: found[name].float().to(inputs.device) for name in sorted(names)}

    def _cached(self, spec: TrainSpec, folder: Path) -> TeacherCache | None:
        """Return the cache of a task whose samples come again; None for others."""
        inputs = self.task.fixed_inputs() if self.spec.cache_mib else None
        if inputs is None:
            return None
        key = json.dumps(
            [self.digest, self.teacher.architecture.fingerprint, str(self.numerics.dtype)]
            + [[pair.teacher.path, pair.matrices] for pair in self.pairs]
        )
        block = min(MOST_BLOCK, math.ceil(spec.batch / spec.accumulation), len(inputs))
        most = self.spec.cache_mib * 2**20
        return TeacherCache(folder, key, inputs, block, most, self._ask)


def projections(pairs: tuple[Pair, ...], seed: int) -> nn.ModuleDict | None:
    """Return a linear map to the teacher's width for each pair of other widths, by its place; None where all are alike.

    They are drawn from the seed alone, whatever else is drawn.
    """
    found: dict[str, nn.Module] = {}
    for place, pair in enumerate(pairs):
        teacher, student = pair.widths
        if teacher != student:
            digest = hashlib.sha256(f"projection:{seed}:{place}".encode()).digest()
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int.from_bytes(digest[:7], "big"))
                found[str(place)] = nn.Linear(student, teacher, bias=False)
    return nn.ModuleDict(found) if found else None


@torch.no_grad()
def copy_alike(teacher: GraphModel, student: GraphModel) -> list[str]:
    """Give components of the student the weights of the teacher's at the same path; return the paths.

    Only those of one name whose weights all have the same shapes; the norm before a component goes with it.
    """
    theirs, taken = dict(teacher.slots()), []
    for path, slot in student.slots():
        other = theirs.get(path)
        if other is None or other.use != slot.use:
            continue
        given, own = other.state_dict(), slot.state_dict()
        shapes = {name: tensor.shape for name, tensor in given.items()}
        if own and shapes == {name: tensor.shape for name, tensor in own.items()}:
            slot.load_state_dict(given)
            taken.append(path)
    return taken


def _normed(slot: Slot, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return what a slot's component reads of what comes to its place."""
    if slot.norm is None or slot.residual != "pre":
        return given
    first, *others = given
    return slot.norm(first), *others


def _bytes_around(seen: Seen) -> int:
    tensors = {id(tensor): tensor.nbytes for tensor in (*seen.given, *seen.read)}
    return sum(tensors.values()) + (seen.gave.nbytes if seen.gave is not None else 0)


def _mean(values: list[Tensor]) -> float:
    return float(torch.stack(values).mean())
