"""Outputs of the frozen components at a network's beginning, computed once for each sample that comes again.

A component is part of the beginning while all its weights are frozen and nothing else could make it answer otherwise:
no chance, no other sample beside it, no loss that it asks for, no way out, nothing that it moves in a forward or after
an update. What the rest of the network reads of it is kept by ``TeacherCache``: on disk beside the run and in memory,
block by block in the data's own order, so that a training that was killed and resumed reads the same bits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import hybridlab
from hybridlab.architecture.model import GraphModel, Slot
from hybridlab.architecture.program import GIVEN, Beside, Instruction, program, run_one
from hybridlab.components.base import Component, Exit
from hybridlab.errors import Problem, SpecError
from hybridlab.tasks.base import Task
from hybridlab.training.precision import Numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.training.teacher_cache import TeacherCache

FOLDER = ".frozen"
"""In the run's folder; its dot keeps it out of archives."""
VERSIONS = (hybridlab.__version__, torch.__version__)
"""Whose outputs are kept: another version may compute others."""
MOST_BLOCK = 64
"""Most samples that are computed at once for the cache."""
_ROUNDING = {True: 1e-4, False: 0.05}
"""How far an answer may move, against the largest, where a sample stands beside others, in float32 and in 16 bits."""
_log = logging.getLogger(__name__)


def cache_frozen(
    model: nn.Module, task: Task, spec: TrainSpec, numerics: Numerics, folder: Path
) -> FrozenCache:
    """Let a model train on kept outputs of its frozen beginning from now on; its optimiser has frozen it already.

    Raises:
        SpecError: there is nothing at the beginning that stays the same, or no sample comes again.
    """
    inputs = task.fixed_inputs()
    problems = refusals(model, inputs, task.name)
    if problems or inputs is None or not isinstance(model, GraphModel):
        raise SpecError(problems)
    written = program(model).instructions
    count, why = _beginning(written, task.train_batch(0, 2, spec.seed).inputs, numerics)
    if not _weights(written[:count]):
        raise SpecError(_nothing(why))
    made = FrozenCache(model, count, inputs, spec, numerics, folder)
    model.running = made
    return made


def refusals(model: nn.Module, inputs: Tensor | None, task: str) -> list[Problem]:
    """Return what keeps outputs from being kept, as far as it shows without running the model.

    ``inputs`` are the task's samples, None where none comes again; the model's frozen weights ask for no gradient.
    """
    problems = []
    if inputs is None:
        problems.append(
            Problem(
                "cache_frozen",
                f"is of no use: samples of {task} are made anew or changed at each step",
                "a task whose samples come again, such as digits without augment",
                fix="leave cache_frozen out, or turn the changes of samples off",
            )
        )
    if not isinstance(model, GraphModel):
        problems.append(Problem("cache_frozen", "needs a model that names its components"))
        return problems
    written = program(model).instructions
    changing = (place for place, one in enumerate(written) if _changes(one))
    count = next(changing, len(written))
    if not _weights(written[:count]):
        one = written[min(count, len(written) - 1)]
        problems.append(_nothing(f"{one.path} {_changes(one)}"))
    return problems


class FrozenCache:
    """Runs a model in training: its beginning from what is kept, the rest as it stands."""

    def __init__(
        self,
        model: GraphModel,
        count: int,
        inputs: Tensor,
        spec: TrainSpec,
        numerics: Numerics,
        folder: Path,
    ) -> None:
        """Keep what the first ``count`` instructions of the model's program give for ``inputs`` (n, ...)."""
        self.program = program(model)
        self.beginning = self.program.instructions[:count]
        self._inputs, self._numerics, self._folder = inputs, numerics, folder
        self._block = min(MOST_BLOCK, math.ceil(spec.batch / spec.accumulation), len(inputs))
        self._most = spec.cache_frozen * 2**20
        rest = self.program.instructions[count:]
        read = {number for one in rest for number in one.reads} | {self.program.output}
        self._live = sorted(read & ({GIVEN} | {one.writes for one in self.beginning}))
        self._names = frozenset(str(number) for number in self._live if number != GIVEN)
        self._fingerprint = model.architecture.fingerprint
        self._marks: list[tuple[int, int]] = []
        self._key = ""
        self._cache: TeacherCache | None = None
        self.computed = 0
        """Samples whose outputs were computed, not read."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The components whose outputs are kept, in running order."""
        return tuple(dict.fromkeys(one.path for one in self.beginning if one.form == "component"))

    def fill(self, before_each: Callable[[], object] = lambda: None) -> bool:
        """Have the outputs for all samples at hand, from disk where they are there; say whether there is room.

        ``before_each`` is called before each block, and may break it off: what is computed stays.
        """
        return self._now().fill(self._names, before_each)

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[tuple[str, Exit]]]:
        """Run forward: the output, the losses that components ask for, and the exits by path."""
        values, beside = {GIVEN: x}, Beside()
        first, last = len(self.beginning), len(self.program.instructions) - 1
        kept = self._kept(x)
        if kept is None:
            self.program.run(0, first - 1, values, beside)
        else:
            values = kept
            if GIVEN in self._live:
                values[GIVEN] = x
        del x, kept
        self.program.run(first, last, values, beside)
        return values[self.program.output], beside.aux, beside.exits

    def _kept(self, x: Tensor) -> dict[int, Tensor] | None:
        cache = self._now()
        places = cache.places(x.cpu())
        found = None if places is None else cache.answers(places, self._names)
        if found is None:
            return None
        return {int(name): tensor.to(x.device) for name, tensor in found.items()}

    def _now(self) -> TeacherCache:
        """Return the cache of the weights as they are: another one when they have changed."""
        tensors = [tensor for _, tensor in _tensors(self.beginning)]
        marks = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if self._cache is None or marks != self._marks:
            key = json.dumps([self._fingerprint, self._state(), *VERSIONS])
            if self._cache is None or key != self._key:
                self._cache = TeacherCache(
                    self._folder,
                    key,
                    self._inputs,
                    self._block,
                    self._most,
                    self._ask,
                    home=FOLDER,
                    what="outputs of frozen components",
                    setting="cache_frozen",
                )
            self._key, self._marks = key, marks
        return self._cache

    def _state(self) -> list[str]:
        """Return what the outputs depend on beside the samples: components, weights, number format and device."""
        digest = hashlib.sha256()
        for name, tensor in _tensors(self.beginning):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        names = [one.name for one in self.beginning]
        here = [str(self._numerics.dtype), self._numerics.device.type]
        return [*names, *map(str, self._live), *here, digest.hexdigest()]

    def _ask(self, inputs: Tensor, names: frozenset[str]) -> dict[str, Tensor]:
        """Compute the beginning for samples; what is kept lies on the CPU."""
        values: dict[int, Tensor] = {GIVEN: inputs.to(self._numerics.device)}
        needed = {int(name) for name in names}
        with torch.no_grad(), self._numerics.autocast():
            for one in self.beginning:
                values[one.writes] = run_one(one, [values[n] for n in one.reads], Beside())
                for number in one.frees:
                    if number not in needed:
                        del values[number]
        self.computed += len(inputs)
        return {str(n): values[n].detach().cpu().contiguous() for n in sorted(needed)}


def _nothing(why: str) -> Problem:
    return Problem(
        "cache_frozen",
        f"has nothing to keep: {why}",
        "frozen components from the input on",
        fix="freeze them in a group, such as {name: input, kind: input, frozen: true}",
    )


def _weights(beginning: Sequence[Instruction]) -> bool:
    return any(one.module is not None and [*one.module.parameters()] for one in beginning)


def _beginning(
    written: Sequence[Instruction], samples: Tensor, numerics: Numerics
) -> tuple[int, str]:
    """Return how many instructions stay the same for each of some samples, and why the next one does not."""
    values = {GIVEN: samples.to(numerics.device)}
    devices = [] if numerics.device.type == "cpu" else [numerics.device]
    modules = [one.module for one in written if one.module is not None]
    modes = [module.training for module in modules]
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        for module in modules:
            module.train()
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=devices, device_type=numerics.device.type),
            numerics.autocast(),
        ):
            for place, one in enumerate(written):
                if why := _changes(one) or _moves(one, values, numerics):
                    return place, f"{one.path} {why}"
                if not all(torch.equal(buffer, before) for buffer, before in buffers):
                    return place, f"{one.path} changes numbers of its own in each forward"
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.train(training)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    return len(written), "everything is frozen"


def _moves(one: Instruction, values: dict[int, Tensor], numerics: Numerics) -> str:
    """Run an instruction on some samples and on the first alone; say why its answer is none for good, if so."""
    states, beside = _random_states(numerics.device), Beside()
    values[one.writes] = run_one(one, [values[n] for n in one.reads], beside)
    single = run_one(one, [values[n][:1] for n in one.reads], beside)
    if not all(map(torch.equal, states, _random_states(numerics.device))):
        return "draws random numbers, such as those of dropout"
    if beside.aux:
        return "asks for a loss of its own"
    if beside.exits:
        return "lets samples leave"
    apart = float((values[one.writes][:1].double() - single.double()).abs().max())
    if not apart <= _ROUNDING[numerics.dtype is None] * float(single.double().abs().max()):
        return "answers a sample by those that stand beside it, such as with statistics of a batch"
    return ""


def _changes(one: Instruction) -> str:
    """Say why an instruction's output changes while the network learns; empty where it does not."""
    module = one.module
    if module is None:
        return ""
    if any(parameter.requires_grad for parameter in module.parameters()):
        return "learns"
    if isinstance(module, Slot):
        if type(module.body).after_update is not Component.after_update:
            return "moves something after each update"
        if module.opening != 1.0:
            return "is still opening"
    return ""


def _random_states(device: torch.device) -> list[Tensor]:
    """Return the states of the generators that a forward may draw from."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def _tensors(beginning: Sequence[Instruction]) -> list[tuple[str, Tensor]]:
    """Return the weights and buffers of instructions by name, each once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for one in beginning:
        if one.module is not None:
            for name, tensor in (*one.module.named_parameters(), *one.module.named_buffers()):
                found.setdefault(id(tensor), (f"{one.name} {name}", tensor))
    return list(found.values())
