"""One design on one session's canvas: takes the canvas's edits in order, once each, and never an outdated one."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hybridlab.architecture.document import MAX_BYTES
from hybridlab.architecture.spec import MAX_NODES
from hybridlab.errors import HybridLabError
from hybridlab.ui.canvas.changes import Path, TextChange, make
from hybridlab.ui.canvas.tree import id_at, readable
from hybridlab.ui.predictions import Shapes
from hybridlab.ui.state import Design

CHANGED = (
    "The design was changed in the meantime, and this edit no longer fits it: "
    "look at it as it is now, and make the edit again."
)
NOT_UNDERSTOOD = (
    "This edit could not be understood; reload the page, and tell us if it happens again."
)
_REFUSALS = 20


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class History(_Strict):
    """Undo or redo one step."""

    do: Literal["undo", "redo"]


class Guard(_Strict):
    """A node that must still be at an address."""

    path: Path
    id: Annotated[str, Field(max_length=200)]


class Edit(_Strict):
    """One edit: one step of undo, made on a revision of the text."""

    id: Annotated[int, Field(ge=1)]
    base: int
    changes: Annotated[list[TextChange | History], Field(min_length=1, max_length=MAX_NODES)]
    guards: Annotated[list[Guard], Field(max_length=100)]
    select: Path | None


class Sent(_Strict):
    """What a canvas sends: all its edits that Python has not acknowledged, oldest first."""

    client: Annotated[str, Field(min_length=1, max_length=40)]
    edits: Annotated[list[dict[str, Any]], Field(max_length=500)]
    again: int = 0


@dataclass
class Desk:
    """What Python remembers of a design's canvas."""

    design: Design
    seed: str = field(default_factory=lambda: secrets.token_hex(6))
    acknowledged: dict[str, int] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    varies: dict[str, str] = field(default_factory=dict)
    """What may vary in a search, in words, by a node's path of ids."""
    selected: str | None = None
    """What the canvas has selected, as far as Python knows."""
    stamp: int = 1
    taken_s: float = 0.0
    """When the newest edit came, in seconds since 1970."""
    shapes: Shapes = field(default_factory=Shapes)
    """What the page looks at the design with."""
    owner: str = ""
    """Whose questions those about this design are."""
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def take(self, sent: object) -> None:
        """Make the edits that are new; what cannot be made is refused with a sentence, and the text stays."""
        try:
            message = Sent.model_validate(sent)
        except ValidationError:
            return
        with self._guard:
            self._take(message)

    def ahead(self, sent: object) -> Desk:
        """Return a desk of its own that has taken these edits already; this one and its design stay as they are."""
        with self._guard:
            design = dataclasses.replace(
                self.design, past=[*self.design.past], future=[*self.design.future]
            )
            twin = dataclasses.replace(
                self, design=design, acknowledged={**self.acknowledged}, _guard=threading.Lock()
            )
        twin.take(sent)
        return twin

    def _take(self, message: Sent) -> None:
        for raw in message.edits:
            number = raw.get("id")
            if not isinstance(number, int) or number <= self.acknowledged.get(message.client, 0):
                continue
            self.acknowledged[message.client], self.taken_s = number, time.time()
            try:
                self._make(Edit.model_validate(raw))
            except ValidationError:
                self._refuse(message.client, number, NOT_UNDERSTOOD)
            except HybridLabError as error:
                sentences = " ".join(problem.sentence() + "." for problem in error.problems[:3])
                self._refuse(message.client, number, sentences)

    def _make(self, edit: Edit) -> None:
        first = edit.changes[0]
        if isinstance(first, History):
            (self.design.undo if first.do == "undo" else self.design.redo)()
            return
        if edit.base != self.design.revision and any(
            id_at(self.design.text, guard.path) != guard.id for guard in edit.guards
        ):
            raise HybridLabError(CHANGED)
        changes = [change for change in edit.changes if not isinstance(change, History)]
        text = make(self.design.text, changes)
        readable(text)
        self.design.change(text)
        if edit.select is not None:
            self.design.selected = self.selected = edit.select

    def _refuse(self, client: str, number: int, sentence: str) -> None:
        self.refused = [
            *self.refused[-_REFUSALS + 1 :],
            {"client": client, "id": number, "sentence": sentence},
        ]

    def take_selection(self, sent: object) -> None:
        """Select what the canvas has selected."""
        path = sent.get("path") if isinstance(sent, dict) else None
        if path is None or (isinstance(path, str) and len(path) < 400):
            self.design.selected = self.selected = path

    def take_places(self, sent: object) -> bool:
        """Keep where the user put nodes; False where the message is none or of another design."""
        if not isinstance(sent, dict) or sent.get("seed") != self.seed:
            return False
        at = sent.get("at")
        if not isinstance(at, dict) or len(at) > MAX_NODES:
            return False
        self.places = clean_places(at)
        return True

    def marks(self, sent: object) -> dict[str, bool]:
        """Return which nodes the canvas says may vary or may not; nothing where the message is none of this design."""
        if not isinstance(sent, dict) or sent.get("seed") != self.seed:
            return {}
        wanted = sent.get("wanted")
        if not isinstance(wanted, dict) or len(wanted) > MAX_NODES:
            return {}
        return {
            ids: on for ids, on in wanted.items() if isinstance(ids, str) and isinstance(on, bool)
        }

    def wish(self) -> dict[str, Any]:
        """Return what the canvas should select; the stamp grows when somebody else than the canvas chose.

        It is in every message, also where nothing is selected: a canvas takes the first that it sees, and had it not
        seen one before its own first choice, it would take the answer to that as a wish, over what was chosen since.
        """
        if self.design.selected != self.selected:
            self.selected = self.design.selected
            self.stamp += 1
        return {"path": self.selected, "stamp": self.stamp}


def clean_places(at: dict[Any, Any]) -> dict[str, tuple[float, float]]:
    """Return the places that are pairs of sane numbers."""
    return {
        name: (float(point[0]), float(point[1]))
        for name, point in at.items()
        if isinstance(name, str)
        and len(name) < MAX_BYTES
        and isinstance(point, (list, tuple))
        and len(point) == 2
        and all(type(value) in (int, float) and abs(value) < 1e6 for value in point)
    }
