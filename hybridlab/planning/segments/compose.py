"""A plain step put together from its instructions, each recorded alone once and remembered; an edit traces its change.

Backward goes through the instructions in reverse, each as a whole: autograd takes the node that was made last among
those that are ready. What an instruction does depends on the tensors that it is given, of which only shapes,
strides and sharing matter; so these are handed from recording to recording, and storages live as long as somebody has
them. What this cannot tell (a tied group, for one) is traced as a whole.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.fake_run import fake_inputs
from hybridlab.architecture.infer import Inference
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.program import GIVEN, Beside, program
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import BuildContext
from hybridlab.planning.plain_step import AHEAD, BACK, LAST, THERE, PlainStep, Storages
from hybridlab.planning.segments.alone import record_alone
from hybridlab.planning.segments.kinds import Kind, kind_of, recorded
from hybridlab.planning.segments.ledger import Gradient, Ledger, Placed, Value
from hybridlab.planning.segments.record import IN_BACKWARD, Asked, Given, Segment, UnusualError
from hybridlab.planning.segments.tensors import meta_of
from hybridlab.planning.segments.update import Update, skeleton
from hybridlab.planning.tracing import trace_plain
from hybridlab.trace.exact import Recipe, part_loss, pieces


def plain_step(
    architecture: Architecture,
    inference: Inference,
    *,
    batch: int,
    length: int,
    recipe: Recipe,
    arrange: Callable[[nn.Module], object] | None = None,
    part: int | None = None,
) -> PlainStep:
    """Return one training step in a steady state, from what is remembered of its parts where that is enough.

    ``arrange`` changes the model before it runs, of which nothing is remembered; see ``trace_plain``, as for parts of a
    batch too.
    """
    if arrange is None:
        with contextlib.suppress(UnusualError):
            return put_together(
                architecture, inference, batch=batch, length=length, recipe=recipe, part=part
            )
    return trace_plain(
        architecture,
        inference,
        batch=batch,
        length=length,
        recipe=recipe,
        arrange=arrange,
        part=part,
    )


def put_together(
    architecture: Architecture,
    inference: Inference,
    *,
    batch: int,
    length: int,
    recipe: Recipe,
    part: int | None = None,
) -> PlainStep:
    """Return the same, always from its parts.

    Raises:
        UnusualError: they are not enough.
    """
    with QuickFakeMode(allow_non_fake_inputs=True) as mode, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = skeleton(architecture, inference, mode)
        step = _Step(model, batch, length, recipe)
        plain = step.run()
        if recipe.parts == 1 or batch == 1 or part == 0:
            return plain
        learnt = frozenset(step.weights)
        return _Step(model, batch, length, recipe, step.update, learnt, part or 0).run()


class _Step:
    """One step on its way: what goes from instruction to instruction, and what they have done so far."""

    def __init__(
        self,
        model: GraphModel,
        batch: int,
        length: int,
        recipe: Recipe,
        update: Update | None = None,
        learnt: frozenset[int] = frozenset(),
        part: int = 0,
    ) -> None:
        """Take a part of a step; ``learnt`` are the ids of weights whose gradients have stayed from one before."""
        self.model, self.recipe, self.learnt = model, recipe, learnt
        self.architecture, self.inference = model.architecture, model.inference
        self.written = program(model)
        modules = [id(one.module) for one in self.written.instructions if one.module is not None]
        if len(set(modules)) < len(modules):
            raise UnusualError("a module runs twice")
        if learnt and _shared(one.module for one in self.written.instructions):
            raise UnusualError("gradients of several are added up before they meet an old one")
        self.update = update or Update(model, recipe)
        context = BuildContext((self.inference.input,), self.architecture.width)
        (whole,) = fake_inputs(context, batch, length)
        shape = recipe.target
        targets = None if shape is None else torch.zeros((batch, *shape), dtype=recipe.answers)
        cut = pieces(whole, recipe.parts)
        self.x, self.targets, self.parts = cut[part], pieces(targets, recipe.parts)[part], len(cut)
        self.ledger = Ledger()
        self.count = len(self.written.instructions)
        self.packs: list[tuple[int, int, int]] = []
        self.reads: list[tuple[int, ...]] = []
        self.held: dict[int, str] = {}
        self.there = 0
        self.tensors = 0
        self.weights: dict[int, int] = dict.fromkeys(learnt, -1)
        """The storage of each weight's gradient, by the weight's id; negative where it was there before."""
        self.beside: list[Value] = []
        self.every: list[Value] = []

    def run(self) -> PlainStep:
        placed = self._forward()
        output = self.values.pop(self.written.output)
        loss = self._loss(output)
        for one in [loss, *reversed(placed)]:
            self._back(one)
        self.ledger.at_end.append(output.storage)
        self.ledger.end()
        lives = self.ledger.lives([*placed, loss])
        return PlainStep(
            self.written.names,
            tuple(one.path for one in self.written.instructions),
            self._with_update(lives, placed),
            self.ledger.all_rows(),
            self.packs,
            self.reads,
            self.held,
        )

    def _forward(self) -> list[Placed]:
        meta = meta_of(self.x)
        self.values: dict[int, Value] = {GIVEN: Value(-1, meta, False)}
        norms = self.architecture.norm, self.architecture.norm_eps
        placed = []
        for place, one in enumerate(self.written.instructions):
            read = [self.values[number] for number in one.reads]
            distinct = list({id(value): value for value in read}.values())
            order = tuple(
                next(n for n, other in enumerate(distinct) if other is value) for value in read
            )
            kind = kind_of(one, self.inference, *norms, order)
            given = _given(distinct)
            segment = recorded(kind, given, None, self.recipe.cast)
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
                    self.ledger.hold(gone.storage, self.ledger.tick)
            self.ledger.tick += 1
        for number, value in self.values.items():
            if number != self.written.output:
                self.ledger.hold(value.storage, self.ledger.tick)
        return placed

    def _place(
        self,
        place: int,
        kind: Kind | None,
        given: tuple[Given, ...],
        segment: Segment,
        reads: list[Value],
    ) -> Placed:
        """Put an instruction's forward into the step."""
        start, first = self.ledger.tick, self.ledger.made
        mine = Placed(place, kind, given, segment, start, first, reads, [])
        self.ledger.add(segment.ahead, place, AHEAD)
        for number, (reference, meta, needs) in enumerate(segment.outputs):
            if number == 0 and segment.same_as is not None:
                mine.gives.append(reads[segment.same_as])
            else:
                value = Value(self.ledger.number(mine, reference), meta, needs)
                mine.gives.append(value)
                self.every.append(value)
        for tick, reference in segment.kept:
            self.packs.append((start + tick, place, self.ledger.number(mine, reference)))
        self.there += segment.there_bytes
        return mine

    def _loss(self, output: Value) -> Placed:
        """Record the loss on what the model gives, as it would be made of it."""
        reads = list({id(value): value for value in [output, *self.beside]}.values())
        given = _given(reads)
        recipe, targets, parts = self.recipe, self.targets, self.parts
        stays: list[Tensor] = []
        """What the step has a name for until backward has ended."""

        def run(values: list[Tensor], beside: Beside) -> Tensor:
            total = part_loss(recipe, targets, parts, values[0])
            if len(values) > 1:
                stays.append(torch.stack([loss.float() for loss in values[1:]]).sum())
                total = total + stays[0]
            return total

        there = [targets] if targets is not None else []
        segment = record_alone(None, run, given, None, there)
        mine = self._place(self.count, None, given, segment, reads)
        total = mine.gives[0]
        self.ledger.tick += 1
        if not total.needs:
            raise UnusualError("nothing is learnt")
        self.ledger.at_end.append(total.storage)
        assert segment.answered is not None and segment.answered.outputs[0] is not None
        meta = segment.answered.outputs[0].meta
        held = self.ledger.add_one(meta.bytes, self.count, BACK)  # by whoever starts backward
        total.gradient = Gradient(held, meta, self._tensor())
        return mine

    def _back(self, mine: Placed) -> None:
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
            mine.segment = recorded(mine.kind, mine.given, asked, self.recipe.cast)
        segment = mine.segment
        assert segment.back is not None
        mine.back_start, mine.back_storages = self.ledger.tick, self.ledger.made
        self.ledger.add(segment.back, mine.place, BACK)
        before = {  # equal ones of one storage are taken for one tensor
            (g.storage, g.meta): g.tensor for v in (*mine.gives, *mine.reads) if (g := v.gradient)
        }
        for value in mine.gives:
            value.gradient = None
        for value, found in zip(mine.reads, segment.gradients, strict=True):
            if found is None:
                value.gradient = None
                continue
            storage = self.ledger.number(mine, found[0], storages)
            tensor = before.setdefault((storage, found[1]), self._tensor())
            value.gradient = Gradient(storage, found[1], tensor)
            self.ledger.hold(storage, self.ledger.tick)
        for number, until in segment.gradients_until.items():
            self.ledger.hold_until(storages[number], until, mine)
        for number, until in segment.inputs_until.items():
            value = next(
                v for v, g in zip(mine.reads, mine.given, strict=True) if g.storage == number
            )
            self.ledger.hold_until(value.storage, until, mine)
        for name, reference in segment.weights.items():
            weight = mine.named[name]
            if reference is None:
                continue
            if weight in self.weights:
                when, tick = segment.weights_until[name]
                if when != IN_BACKWARD or self.weights[weight] < 0:
                    raise UnusualError("a gradient that stays beside its sum")
                self.ledger.drop(self.weights[weight], mine.back_start + tick)
            self.weights[weight] = self.ledger.number(mine, reference, storages)
        self.ledger.tick += 1

    def _asked(self, mine: Placed) -> tuple[Asked, list[int]]:
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

    def _with_update(self, lives: Storages, placed: Sequence[Placed]) -> Storages:
        """Add what the update makes, and what is there all the time as one."""
        made, there_bytes = self.update.made(self.weights)
        batch = {
            one.untyped_storage()._cdata: one for one in (self.x, self.targets) if one is not None
        }
        there_bytes += self.there + self.update.there_bytes
        there_bytes += sum(p.nbytes for p in self.model.parameters() if id(p) in self.learnt)
        there_bytes += sum(one.untyped_storage().nbytes() for one in batch.values())
        parts = [lives]
        several = [made, *(one.segment.update for one in placed if one.segment.update is not None)]
        for sizes, born, died, ticks in several:
            count = len(sizes)
            gone = np.where(died < 0, -1, died + self.ledger.tick)
            parts.append(
                Storages(
                    *(sizes, born + self.ledger.tick, gone),
                    *(np.full(count, value) for value in (self.count, LAST)),
                )
            )
            self.ledger.tick += ticks + 1
        one = (np.array([value]) for value in (there_bytes, 0, -1, self.count, THERE))
        parts.append(Storages(*one))
        columns = ("bytes", "born", "died", "maker", "phase")
        return Storages(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in columns)
        )


def _shared(modules: Iterable[nn.Module | None]) -> bool:
    """Say whether several instructions have a weight in common that learns."""
    used = [
        id(p) for one in modules if one is not None for p in one.parameters() if p.requires_grad
    ]
    return len(set(used)) < len(used)


def _given(values: Sequence[Value]) -> tuple[Given, ...]:
    """Describe different values that an instruction reads."""
    storages: list[int] = []
    found = []
    for place, value in enumerate(values):
        if value.storage not in storages:
            storages.append(value.storage)
        number = storages.index(value.storage)
        found.append(Given(value.meta, number, place, value.needs))
    return tuple(found)
