"""Applies a fusion to a model and takes it away again; its parameters stay the same objects under the same names."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel
from hybridlab.components.rotary import Tables, tables_once
from hybridlab.errors import Problem, RunError
from hybridlab.planning.fusion.maps import FusedLinear, Shared, Together, join, part
from hybridlab.planning.fusion.norms import bare_form, bare_kind, foldable
from hybridlab.planning.fusion.record import Fold, Fusion


class Fused:
    """A fusion of one model, on or off."""

    def __init__(self, model: GraphModel, fusion: Fusion) -> None:
        """Find what is to be fused; nothing changes yet.

        Raises:
            RunError: the fusion was made for another architecture, or names what cannot be fused; all of it.
        """
        _check(model, fusion)
        self.model = model
        self.fusion = fusion
        modules = dict(model.named_modules())
        before = {name: modules[fold.norms[at]] for fold in fusion.folds for name, at in _of(fold)}
        products = list(fusion.products)
        products += [(name,) for name in before if not any(name in one for one in products)]
        self.products = [
            Together(
                [modules[name] for name in names],
                [before.get(name) for name in names],
                training=fusion.training,
            )
            for names in products
        ]
        self._bare = [
            (
                [modules[name] for name in fold.norms],
                bare_form(modules[fold.norms[0]]),
                Shared(len(fold.norms)),
            )
            for fold in fusion.folds
        ]
        self._tables = Tables() if fusion.tables else None
        self._inside = contextlib.ExitStack()
        self._hooks: list[Any] = []

    def on(self) -> None:
        """Run the model fused from now on.

        Raises:
            RunError: another fusion is on.
        """
        if self._hooks:
            return
        if any(isinstance(one, FusedLinear) for one in self.model.modules()):
            fix = "turn it off first"
            raise RunError(Problem("fusion", "another one is applied to this model", fix=fix))
        for norms, form, shared in self._bare:
            for place, norm in enumerate(norms):
                norm.__dict__["forward"] = functools.partial(_once, form, shared, place)
        for together in self.products:
            join(together)
            if not self.fusion.training:
                together.weights()
        self._hooks = [
            self.model.register_forward_pre_hook(self._begin),
            self.model.register_forward_hook(self._end, always_call=True),
        ]

    def off(self) -> None:
        """Run the model as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._forget()
        if self._tables is not None:
            self._tables.made.clear()
        for norms, _, _ in self._bare:
            for norm in norms:
                norm.__dict__.pop("forward", None)
        for together in self.products:
            part(together)

    def wasted(self) -> int:
        """Return how often something was computed for a place that did not ask for it."""
        return sum(one.wasted for one in self._all())

    def _all(self) -> list[Shared]:
        return [one.shared for one in self.products] + [shared for *_, shared in self._bare]

    def _forget(self) -> None:
        for one in self._all():
            one.forget()

    def _begin(self, model: nn.Module, inputs: Any) -> None:
        if not self.fusion.training and (model.training or torch.is_grad_enabled()):
            raise RunError(
                Problem(
                    "fusion",
                    "was made for inference",
                    "model.eval() and torch.no_grad()",
                    "training mode" if model.training else "gradients",
                    "fuse for training, or turn it off",
                )
            )
        self._forget()
        if self._tables is not None:
            self._inside.enter_context(tables_once(self._tables))

    def _end(self, model: nn.Module, inputs: Any, output: Any) -> None:
        self._forget()
        self._inside.close()


def fuse(model: GraphModel, fusion: Fusion) -> Fused:
    """Let a model train fused from now on.

    Raises:
        RunError: the fusion is for inference, was made for another architecture, or names what cannot be fused.
    """
    fusion.check_training()
    made = Fused(model, fusion)
    made.on()
    return made


def _of(fold: Fold) -> list[tuple[str, int]]:
    """Return each map of a fold with the place of its norm."""
    return [(name, at) for at, names in enumerate(fold.maps) for name in names]


def _check(model: GraphModel, fusion: Fusion) -> None:
    """Refuse what cannot be fused in a model.

    Raises:
        RunError: it holds all problems.
    """
    fusion.check_design(model.architecture.fingerprint)
    problems = []
    if fusion.training and fusion.folds:
        problems.append(
            Problem("fusion.folds", "are for inference: norms go on learning", got="training")
        )
    modules = dict(model.named_modules())
    seen: set[str] = set()
    folded = [name for fold in fusion.folds for name, _ in _of(fold)]
    for where, names in (
        *((f"fusion.products[{at}]", names) for at, names in enumerate(fusion.products)),
        ("fusion.folds", tuple(folded)),
    ):
        twice = where.startswith("fusion.products") and seen.intersection(names)
        for name in names:
            if type(modules.get(name)) not in (nn.Linear, FusedLinear):
                problems.append(Problem(where, "is no linear map of this model", got=name))
            elif (twice and name in twice) or names.count(name) > 1:
                problems.append(Problem(where, "is fused twice", got=name))
        if where.startswith("fusion.products"):
            seen.update(names)
    for at, fold in enumerate(fusion.folds):
        where = f"fusion.folds[{at}]"
        if len(fold.norms) != len(fold.maps) or not fold.norms:
            problems.append(Problem(where, "has not the maps of each of its norms"))
        for name in fold.norms:
            if name not in modules or not foldable(modules[name]):
                problems.append(Problem(where, "is no norm whose scale can be folded", got=name))
        if not problems and len({bare_kind(modules[name]) for name in fold.norms}) > 1:
            problems.append(
                Problem(where, "holds norms of different kinds", got=", ".join(fold.norms))
            )
    if problems:
        raise RunError(problems)


def _once(form: Callable[[Tensor], Tensor], shared: Shared, place: int, x: Tensor) -> Tensor:
    """Compute a bare norm, or take what was computed for another place that reads the same tensor."""
    if len(shared) == 1:
        return form(x)
    ready = shared.take(place, x)
    return ready if ready is not None else shared.put(place, x, [form(x)] * len(shared))
