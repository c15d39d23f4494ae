"""A plain step put together from its instructions, each recorded alone once and remembered: an edit traces what it changed.

Backward goes through the instructions in their order turned round, each as a whole: autograd takes the node that was made
last among those that are ready. What an instruction does depends on the tensors that it is given, of which only shapes,
strides and sharing matter; so these are handed from recording to recording, and storages live as long as somebody has
them. What this cannot tell (a tied group, for one) is traced as a whole.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.fake_run import fake_inputs
from hybridlab.architecture.infer import Inference
from hybridlab.architecture.model import GraphModel, Slot
from hybridlab.architecture.plan import SlotPlan
from hybridlab.architecture.program import GIVEN, Beside, Instruction, program, run_one
from hybridlab.architecture.spec import Architecture, Residual
from hybridlab.components.base import BuildContext
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorType
from hybridlab.planning.plain_step import AHEAD, BACK, LAST, THERE, Ints, PlainStep, Rows, Storages
from hybridlab.planning.segment import (
    AT_END,
    IN_BACKWARD,
    IN_FORWARD,
    NEVER,
    Asked,
    Given,
    Meta,
    Part,
    Reference,
    Segment,
    UnusualError,
    meta_of,
    record_alone,
)
from hybridlab.planning.tracing import trace_plain
from hybridlab.planning.update import Update, skeleton
from hybridlab.trace.exact import Recipe

_ON = 1 << 60
"""The death of what outlives the step, while lives are put together."""


def plain_step(
    architecture: Architecture, inference: Inference, *, batch: int, length: int, recipe: Recipe
) -> PlainStep:
    """Return one training step in a steady state, from what is remembered of its parts where that is enough."""
    with QuickFakeMode(allow_non_fake_inputs=True) as mode, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = skeleton(architecture, inference, mode)
            return _Step(model, batch, length, recipe).run()
        except UnusualError:
            pass
    return trace_plain(architecture, inference, batch=batch, length=length, recipe=recipe)


@dataclass(frozen=True)
class _Kind:
    """What an instruction is, wherever it stands; ``order`` are the numbers of the inputs that it reads, in order."""

    form: Literal["component", "opens", "closes"]
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


@functools.lru_cache(maxsize=1024)
def _recorded(kind: _Kind, inputs: tuple[Given, ...], asked: Asked | None) -> Segment:
    one = kind.instruction()

    def run(values: list[Tensor], beside: Beside) -> Tensor:
        given = [values[number] for number in kind.order]
        values.clear()
        return run_one(one, given, beside)

    return record_alone(one.module, run, inputs, asked)


@dataclass
class _Gradient:
    """A gradient on its way: its storage, and a ``tensor`` number that equal ones share."""

    storage: int
    meta: Meta
    tensor: int


@dataclass
class _Value:
    """A tensor between instructions; ``storage`` is negative where it was there before the step."""

    storage: int
    meta: Meta
    needs: bool
    gradient: _Gradient | None = None


@dataclass
class _Placed:
    """An instruction's recording in the step: what it is, where its storages begin, what goes in and out."""

    place: int
    kind: _Kind | None
    given: tuple[Given, ...]
    segment: Segment
    start: int
    storages: int
    reads: list[_Value]
    gives: list[_Value]
    named: dict[str, int] = field(default_factory=dict)
    back_start: int = -1
    back_storages: int = -1


class _Step:
    """One step on its way: storages and operators so far, and the tick."""

    def __init__(
        self, model: GraphModel, batch: int, length: int, recipe: Recipe
    ) -> None:
        self.model, self.recipe = model, recipe
        self.architecture, self.inference = model.architecture, model.inference
        self.written = program(model)
        modules = [id(one.module) for one in self.written.instructions if one.module is not None]
        if len(set(modules)) < len(modules):
            raise UnusualError("a module runs twice")
        self.update = Update(model, recipe)
        context = BuildContext((self.inference.input,), self.architecture.width)
        (self.x,) = fake_inputs(context, batch, length)
        shape = recipe.target
        self.targets = None if shape is None else torch.zeros((batch, *shape), dtype=torch.int64)
        self.tick = 1
        self.count = len(self.written.instructions)
        self.storages: list[tuple[Ints, Ints, int, int]] = []
        """(bytes, born, maker, phase) of storages that were made together."""
        self.made = 0
        self.rows: list[tuple[Ints, Ints, Ints, int, int]] = []
        self.packs: list[tuple[int, int, int]] = []
        self.reads: list[tuple[int, ...]] = []
        self.held: dict[int, str] = {}
        self.until: dict[int, int] = {}
        """Until when somebody else holds a storage, beside who made it."""
        self.forced: dict[int, int] = {}
        self.at_end: list[int] = []
        self.there = 0
        self.tensors = 0
        self.weights: dict[int, int] = {}
        """The storage of each weight's gradient, by the weight's id."""
        self.beside: list[_Value] = []
        self.every: list[_Value] = []

    def run(self) -> PlainStep:
        placed = self._forward()
        output = self.values.pop(self.written.output)
        loss = self._loss(output)
        self.ahead_end = self.tick
        for one in [loss, *reversed(placed)]:
            self._back(one)
        self.tick += 1
        self.end = self.tick
        for storage in [output.storage, *self.at_end]:
            self._hold(storage, self.end)
        self.tick += 1
        lives = self._lives([*placed, loss])
        return PlainStep(
            self.written.names,
            tuple(one.path for one in self.written.instructions),
            self._with_update(lives, placed),
            self._all_rows(),
            self.packs,
            self.reads,
            self.held,
        )

    def _forward(self) -> list[_Placed]:
        meta = meta_of(self.x)
        self.values: dict[int, _Value] = {GIVEN: _Value(-1, meta, False)}
        norms = self.architecture.norm, self.architecture.norm_eps
        placed = []
        for place, one in enumerate(self.written.instructions):
            read = [self.values[number] for number in one.reads]
            distinct = list({id(value): value for value in read}.values())
            order = tuple(
                next(n for n, other in enumerate(distinct) if other is value) for value in read
            )
            kind = _kind(one, self.inference, *norms, order)
            given = _given(distinct)
            segment = _recorded(kind, given, None)
            mine = self._place(place, kind, given, segment, distinct)
            if one.module is not None:
                mine.named = {name: id(p) for name, p in one.module.named_parameters()}
            self.values[one.writes] = mine.gives[0]
            self.beside += mine.gives[1:]
            self.reads.append(tuple(value.storage for value in read if value.storage >= 0))
            if segment.held:
                self.held[place] = segment.held
            placed.append(mine)
            for number in one.frees:
                gone = self.values.pop(number, None)
                if gone is not None:
                    self._hold(gone.storage, self.tick)
            self.tick += 1
        for number, value in self.values.items():
            if number != self.written.output:
                self._hold(value.storage, self.tick)
        return placed

    def _place(
        self,
        place: int,
        kind: _Kind | None,
        given: tuple[Given, ...],
        segment: Segment,
        reads: list[_Value],
    ) -> _Placed:
        """Put an instruction's forward into the step."""
        start, first = self.tick, self.made
        mine = _Placed(place, kind, given, segment, start, first, reads, [])
        self._add(segment.ahead, place, AHEAD)
        for number, (reference, meta, needs) in enumerate(segment.outputs):
            if number == 0 and segment.same_as is not None:
                mine.gives.append(reads[segment.same_as])
            else:
                value = _Value(self._global(mine, reference, ()), meta, needs)
                mine.gives.append(value)
                self.every.append(value)
        for tick, reference in segment.kept:
            storage = self._global(mine, reference, ())
            if storage >= 0:
                self.packs.append((start + tick, place, storage))
        self.there += segment.there_bytes
        return mine

    def _loss(self, output: _Value) -> _Placed:
        """Record the loss on what the model gives, as it would be made of it."""
        reads = list({id(value): value for value in [output, *self.beside]}.values())
        given = _given(reads)
        recipe, targets = self.recipe, self.targets
        stays: list[Tensor] = []
        """What the step has a name for until backward has ended."""

        def run(values: list[Tensor], beside: Beside) -> Tensor:
            total = recipe.loss(values[0], targets)
            if len(values) > 1:
                stays.append(torch.stack([loss.float() for loss in values[1:]]).sum())
                total = total + stays[0]
            return total

        there = [targets] if targets is not None else []
        segment = record_alone(None, run, given, None, there)
        mine = self._place(self.count, None, given, segment, reads)
        total = mine.gives[0]
        self.tick += 1
        if not total.needs:
            raise UnusualError("nothing is learnt")
        self.at_end.append(total.storage)
        assert segment.answered is not None and segment.answered.outputs[0] is not None
        meta = segment.answered.outputs[0].meta
        total.gradient = _Gradient(self.made, meta, self._tensor())
        self.storages.append((np.array([meta.bytes]), np.array([self.tick]), self.count, BACK))
        self.at_end.append(self.made)  # whoever starts backward holds it
        self.made += 1
        self.tick += 1
        return mine

    def _back(self, mine: _Placed) -> None:
        """Put an instruction's backward into the step, with the gradients that have come."""
        if mine.segment.same_as is not None:
            if mine.segment.kept or len(mine.gives) > 1:
                raise UnusualError("an instruction that gives what it takes")
            return
        if all(value.gradient is None for value in mine.gives):
            if mine.segment.back is not None:
                raise UnusualError("an instruction without a gradient")
            return
        asked, storages = self._asked(mine)
        if asked != mine.segment.answered:
            if mine.kind is None:
                raise UnusualError("a loss with another gradient")
            mine.segment = _recorded(mine.kind, mine.given, asked)
        segment = mine.segment
        assert segment.back is not None
        mine.back_start, mine.back_storages = self.tick, self.made
        self._add(segment.back, mine.place, BACK)
        before = {
            (g.storage, g.meta): g.tensor for v in (*mine.gives, *mine.reads) if (g := v.gradient)
        }
        for value in mine.gives:
            value.gradient = None
        for value, found in zip(mine.reads, segment.gradients, strict=True):
            if found is None:
                value.gradient = None
                continue
            storage = self._global(mine, found[0], storages)
            if (storage, found[1]) not in before:  # equal ones of one storage are taken for one tensor
                before[storage, found[1]] = self._tensor()
            value.gradient = _Gradient(storage, found[1], before[storage, found[1]])
            self._hold(storage, self.tick)
        for number, until in segment.gradients_until.items():
            self._hold_until(storages[number], until, mine)
        for number, until in segment.inputs_until.items():
            value = next(v for v, g in zip(mine.reads, mine.given, strict=True) if g.storage == number)
            self._hold_until(value.storage, until, mine)
        for name, reference in segment.weights.items():
            weight = mine.named[name]
            if reference is None:
                continue
            if weight in self.weights:
                when, tick = segment.weights_until[name]
                if when != IN_BACKWARD:
                    raise UnusualError("a gradient that stays beside its sum")
                self.forced[self.weights[weight]] = mine.back_start + tick
            self.weights[weight] = self._global(mine, reference, storages)
        self.tick += 1

    def _asked(self, mine: _Placed) -> tuple[Asked, list[int]]:
        """Describe the gradients that have come to an instruction; return their storages too."""
        storages: list[int] = []
        tensors: list[int] = []
        gradients = [value.gradient for value in (*mine.gives, *mine.reads)]
        here = {id(value) for value in (*mine.gives, *mine.reads)}
        elsewhere = {
            value.gradient.tensor
            for value in self.every
            if value.gradient is not None and id(value) not in here
        }
        found: list[Given | None] = []
        for gradient in gradients:
            if gradient is None:
                found.append(None)
                continue
            if gradient.storage not in storages:
                storages.append(gradient.storage)
            if gradient.tensor not in tensors:
                tensors.append(gradient.tensor)
            found.append(
                Given(
                    gradient.meta,
                    storages.index(gradient.storage),
                    tensors.index(gradient.tensor),
                    beside=gradient.tensor in elsewhere,
                )
            )
        outs = len(mine.gives)
        has = frozenset(name for name, weight in mine.named.items() if weight in self.weights)
        return Asked(tuple(found[:outs]), tuple(found[outs:]), has), storages

    def _tensor(self) -> int:
        self.tensors += 1
        return self.tensors

    def _add(self, part: Part, place: int, phase: int) -> None:
        """Add storages and operators from the tick at which the step is, and go on to their end."""
        self.storages.append((part.bytes, part.born + self.tick, place, phase))
        self.made += len(part.bytes)
        self.rows.append((part.row_ticks + self.tick, part.row_flops, part.row_moved, place, phase))
        self.tick += part.ticks + 1

    def _global(self, mine: _Placed, reference: Reference, given: Sequence[int]) -> int:
        """Return the number in the step of a storage of a recording."""
        if reference.of == "ahead":
            return mine.storages + reference.number
        if reference.of == "back":
            return mine.back_storages + reference.number
        if reference.of == "given":
            return given[reference.number]
        return next(
            value.storage
            for value, one in zip(mine.reads, mine.given, strict=True)
            if one.storage == reference.number
        )

    def _hold(self, storage: int, tick: int) -> None:
        if storage >= 0:
            self.until[storage] = max(self.until.get(storage, 0), tick)

    def _hold_until(self, storage: int, until: tuple[int, int], mine: _Placed) -> None:
        when, tick = until
        if when == IN_BACKWARD:
            self._hold(storage, mine.back_start + tick)
        elif when == AT_END:
            self.at_end.append(storage)
        elif when == NEVER:
            self._hold(storage, _ON)

    def _lives(self, placed: Sequence[_Placed]) -> Storages:
        """Return all storages of forward and backward, each there until the last who holds it lets go."""
        sizes = np.concatenate([one[0] for one in self.storages])
        born = np.concatenate([one[1] for one in self.storages])
        maker, phase = (
            np.concatenate([np.full(len(one[0]), one[place]) for one in self.storages])
            for place in (2, 3)
        )
        died = np.zeros(len(sizes), dtype=np.int64)
        for one in placed:
            ahead, back = one.segment.ahead, one.segment.back
            parts = [(ahead, one.storages)]
            if back is not None and one.back_start >= 0:
                parts.append((back, one.back_storages))
            for part, first in parts:
                died[first : first + len(part.bytes)] = self._own(one, part)
        for storage, tick in self.until.items():
            died[storage] = max(died[storage], tick)
        for storage, tick in self.forced.items():
            died[storage] = tick
        died[died >= _ON] = -1
        return Storages(sizes, born, died, maker, phase)

    def _own(self, one: _Placed, part: Part) -> Ints:
        """Return until when an instruction holds what it made."""
        when, tick = part.until
        if one.kind is None:
            when = np.minimum(when, AT_END)
        behind = one.start + one.segment.ahead.ticks
        if part is one.segment.back:
            behind = one.back_start + part.ticks
        return np.select(
            [when == IN_FORWARD, when == IN_BACKWARD, when == AT_END, when == NEVER],
            [one.start + tick, one.back_start + tick, np.full(len(tick), self.end), np.full(len(tick), _ON)],
            np.full(len(tick), behind + 1),
        )

    def _with_update(self, lives: Storages, placed: Sequence[_Placed]) -> Storages:
        """Add what the update makes, and what is there all the time as one."""
        made, there_bytes = self.update.made(self.weights)
        batch = {one.untyped_storage()._cdata: one for one in (self.x, self.targets) if one is not None}
        there_bytes += self.there + self.update.there_bytes
        there_bytes += sum(one.untyped_storage().nbytes() for one in batch.values())
        parts = [lives]
        several = [made, *(one.segment.update for one in placed if one.segment.update is not None)]
        for sizes, born, died, ticks in several:
            count = len(sizes)
            gone = np.where(died < 0, -1, died + self.tick)
            parts.append(
                Storages(
                    *(sizes, born + self.tick, gone),
                    *(np.full(count, value) for value in (self.count, LAST)),
                )
            )
            self.tick += ticks + 1
        one = (np.array([value]) for value in (there_bytes, 0, -1, self.count, THERE))
        parts.append(Storages(*one))
        columns = ("bytes", "born", "died", "maker", "phase")
        return Storages(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in columns)
        )

    def _all_rows(self) -> Rows:
        tick, flops, moved = (np.concatenate([one[n] for one in self.rows]) for n in range(3))
        who, phase = (
            np.concatenate([np.full(len(one[0]), one[n]) for one in self.rows]) for n in (3, 4)
        )
        return Rows(tick, who, phase, flops, moved)


def _given(values: Sequence[_Value]) -> tuple[Given, ...]:
    """Describe different values that an instruction reads."""
    storages: list[int] = []
    found = []
    for place, value in enumerate(values):
        if value.storage not in storages:
            storages.append(value.storage)
        number = storages.index(value.storage)
        found.append(Given(value.meta, number, place, value.needs))
    return tuple(found)


def _kind(
    one: Instruction,
    inference: Inference,
    norm: str,
    norm_eps: float | None,
    order: tuple[int, ...],
) -> _Kind:
    module = one.module
    learns = () if module is None else tuple(p.requires_grad for p in module.parameters())
    plans: Mapping[str, SlotPlan] = inference.slots if one.form == "component" else inference.group_norms
    plan = plans.get(one.path) if module is not None else None
    if plan is None:
        return _Kind(one.form, "", "", None, Residual.NONE, "", None, None, 0, learns, order)
    around = (norm, norm_eps) if one.form == "component" else ("", None)
    return _Kind(
        *(one.form, plan.info.name, plan.params.model_dump_json(), plan.context, plan.residual),
        *around,
        plan.output,
        plan.lora,
        learns,
        order,
    )
