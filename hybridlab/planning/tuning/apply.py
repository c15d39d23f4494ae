"""Lets components of a model do things in another way than their design says, and as designed again."""

from __future__ import annotations

from collections.abc import Sequence

from hybridlab.architecture.model import GraphModel
from hybridlab.components.base import Component
from hybridlab.components.types import TensorKind
from hybridlab.errors import Problem, RunError
from hybridlab.planning.layout.hand_over import HandedOver
from hybridlab.planning.tuning.knobs import KNOBS, Knob, Value
from hybridlab.planning.tuning.record import Tuning


class Turned:
    """One knob of some components at another value, on or off."""

    def __init__(self, knob: Knob, components: Sequence[Component], value: Value) -> None:
        """Know what the components were set to; nothing changes yet."""
        self.knob, self.value = knob, value
        self._before = [(one, knob.at(one)) for one in components]

    def on(self) -> None:
        """Set the value."""
        for component, _ in self._before:
            self.knob.set(component, self.value)

    def off(self) -> None:
        """Set what was there before."""
        for component, before in self._before:
            self.knob.set(component, before)


class Tuned:
    """A tuning of one model, on or off."""

    def __init__(self, model: GraphModel, tuning: Tuning) -> None:
        """Check it; nothing changes yet.

        Raises:
            RunError: it was made for another architecture, names what a component has not, or is out of range; all of
                it.
        """
        tuning.check_design(model.architecture.fingerprint)
        self.tuning = tuning
        slots = dict(model.slots())
        bodies = {path: slot.body for path, slot in slots.items()}
        self._turned: list[Turned | HandedOver] = []
        problems = []
        for knob in KNOBS:
            values: dict[str, Value] = dict(getattr(tuning, knob.name))
            for path, value in values.items():
                where = f"tuning.{knob.name}.{path}"
                component = bodies.get(path)
                if component is None or not knob.has(component):
                    what = f"is no component of this model with a {knob.name}"
                    problems.append(Problem(where, what, got=path))
                elif refused := knob.refused(component, value):
                    problems.append(Problem(where, refused, got=str(value)))
                else:
                    self._turned.append(Turned(knob, [component], value))
        for path in tuning.hand_over:
            if path not in slots or bodies[path].gives is not TensorKind.SEQUENCE:
                what = "is no component of this model that hands over a sequence"
                problems.append(Problem(f"tuning.hand_over.{path}", what, got=path))
        if problems:
            raise RunError(problems)
        if tuning.hand_over:
            self._turned.append(HandedOver([slots[path] for path in tuning.hand_over]))

    def on(self) -> None:
        """Run the model tuned from now on."""
        for one in self._turned:
            one.on()

    def off(self) -> None:
        """Run the model as it was designed."""
        for one in self._turned:
            one.off()


def tune(model: GraphModel, tuning: Tuning) -> Tuned:
    """Let a model train tuned from now on.

    Raises:
        RunError: it was measured for inference or for another architecture, names what a component has not, or is out
            of range; all of it.
    """
    tuning.check_training()
    made = Tuned(model, tuning)
    made.on()
    return made
