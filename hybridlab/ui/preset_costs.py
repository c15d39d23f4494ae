"""What each preset will cost on the task it is shown on: worked out once, behind the pages' backs, and remembered."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hybridlab
from hybridlab.architecture import recent
from hybridlab.architecture.gallery import gallery
from hybridlab.architecture.library import Entry
from hybridlab.errors import HybridLabError
from hybridlab.runs.home import home
from hybridlab.ui import predictions
from hybridlab.ui.predictions import Shapes

BEGIN_S = 2.0
"""So long the machine is left to the page that is being drawn first."""
_QUICK_HOLDS_S = 12 * 3600.0
"""A machine whose speed was only measured in passing is measured again after so long, and costs with it."""
_ROOMS = ("architecture", "components", "hardware", "tasks", "trace")


@dataclass(frozen=True)
class PresetCost:
    """Predicted cost of one training step: of which task, batch and length, and how much."""

    task: str
    batch: int
    length: int
    params: int
    step_ms: float
    peak_bytes: int


Costs = dict[str, PresetCost]


def known(entries: Sequence[Entry]) -> tuple[Costs, bool]:
    """Return the costs known by now, and whether more will come; never waits.

    The first call of a server that finds some missing has them worked out, one at a time and while nobody asks for
    anything else: an open design and its edits come first.
    """
    return _keeper.known(_file(tuple(entry.text() for entry in entries)), entries)


class _Keeper:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._costs: dict[Path, Costs] = {}
        self._working: set[Path] = set()

    def known(self, file: Path, entries: Sequence[Entry]) -> tuple[Costs, bool]:
        with self._lock:
            if file not in self._costs:
                self._costs[file] = _read(file)
                if set(self._costs[file]) < {entry.name for entry in entries}:
                    self._working.add(file)
                    work = threading.Thread(
                        target=self._work, args=(file, list(entries)), daemon=True
                    )
                    work.start()
            return dict(self._costs[file]), file in self._working

    def _work(self, file: Path, entries: Sequence[Entry]) -> None:
        """Ask for what is missing; what cannot be predicted stays unknown until the next start."""
        time.sleep(BEGIN_S)
        try:
            for entry in entries:
                if entry.name not in self._costs[file] and (cost := _predicted(entry)):
                    with self._lock:
                        self._costs[file][entry.name] = cost
            _write(file, self._costs[file])
        except HybridLabError:  # the tasks could not be read: the pages that need them say why
            return
        finally:
            with self._lock:
                self._working.discard(file)


def _predicted(entry: Entry) -> PresetCost | None:
    shown = gallery().get(entry.name)
    task = predictions.task(shown.task) if shown else None
    if task is None:
        return None
    shapes = Shapes(task["name"], batch=int(task["default_training"].get("batch", 32)))
    text = entry.text()
    beside = {"content": recent.content_of(text)}
    asked = predictions.pool().submit("predict", shapes.args(text), beside=beside, background=True)
    answer = asked.result()
    if answer.problems or not answer.value["ok"]:
        return None
    value = answer.value
    figures = {key: value[key] for key in ("batch", "length", "params", "step_ms", "peak_bytes")}
    return PresetCost(task=task["name"], **figures)


@functools.lru_cache(maxsize=8)
def _name(texts: tuple[str, ...]) -> str:
    """Return a name that changes with the presets, and with the program that predicts."""
    root = Path(hybridlab.__file__).parent
    files = sorted(file for room in _ROOMS for file in (root / room).rglob("*.py"))
    stamps = [(str(file), file.stat().st_mtime_ns) for file in files]
    about = repr([hybridlab.__version__, stamps, texts, gallery()])
    return f"preset-costs-{hashlib.sha256(about.encode()).hexdigest()[:16]}.json"


def _file(texts: tuple[str, ...]) -> Path:
    return home() / "cache" / _name(texts)


def _read(file: Path) -> Costs:
    """Return the costs that were remembered; none where the machine's speed was measured again, or too long ago."""
    careful, quick = (folder / "ceilings.json" for folder in (home(), file.parent))
    try:
        written = file.stat().st_mtime
        if not careful.exists() and time.time() - written > _QUICK_HOLDS_S:
            return {}
        if any(one.exists() and one.stat().st_mtime > written for one in (careful, quick)):
            return {}
        content: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return {name: PresetCost(**cost) for name, cost in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(file: Path, costs: Costs) -> None:
    """Write the costs for the next start; a folder that cannot be written only costs the next start some seconds."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps({name: asdict(cost) for name, cost in costs.items()}), "utf-8")
        draft.replace(file)
    except OSError:
        return


_keeper = _Keeper()
