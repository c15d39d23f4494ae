"""Random edits as the canvas sends them, and what they make of a text; also writes the front end's test cases.

``python tests/ui/canvas/random_edits.py`` writes hybridlab/ui/canvas/frontend/tests/cases.json anew.
"""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import hybridlab
from hybridlab.architecture import library
from hybridlab.architecture.edit import EMPTY
from hybridlab.errors import HybridLabError
from hybridlab.ui.canvas.changes import TextChange, make
from hybridlab.ui.canvas.tree import readable

CASES = Path(hybridlab.__file__).parent / "ui" / "canvas" / "frontend" / "tests" / "cases.json"
CHANGES: TypeAdapter[TextChange] = TypeAdapter(TextChange)
USES = ("attention", "mamba2", "swiglu", "sum")


def addresses(nodes: Any, head: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    for index, node in enumerate(nodes):
        path = f"{head}nodes[{index}]"
        found += [(path, node), *addresses(node["nodes"] or (), f"{path}.")]
    return found


def random_change(text: str, rng: random.Random) -> dict[str, Any]:
    """Return a change that fits the text, any kind of it, as the canvas would send it."""
    known = addresses(readable(text))
    kinds = [
        "insert",
        "insert",
        "remove",
        "replace",
        "set",
        "inputs",
        "rename",
        "wrap",
        "unwrap",
        "move",
        "duplicate",
    ]
    kind = rng.choice(kinds) if known else "insert"
    if kind == "insert":
        path = (
            rng.choice(known)[0]
            if known and rng.random() < 0.8
            else f"nodes[{len(readable(text))}]"
        )
        node: dict[str, Any] = {"use": rng.choice(USES)}
        if rng.random() < 0.4:
            node = {"id": f"n{rng.randrange(10_000)}", **node}
        return {"do": "insert", "at": path, "node": node}
    path, node = rng.choice(known)
    head, _, last = path.rpartition("nodes[")
    index = int(last.removesuffix("]"))
    siblings = [n for p, n in known if p.startswith(f"{head}nodes[") and "." not in p[len(head) :]]
    if kind == "replace" and node["nodes"] is None:
        return {
            "do": "replace",
            "path": path,
            "use": rng.choice(USES),
            "keep": ["heads"],
            "give": {"state": 8},
        }
    if kind == "inputs":
        names = ["input", *(n["id"] for n in siblings[:index])]
        value = rng.sample(names, rng.randint(1, min(2, len(names))))
        return {"do": "set", "path": path, "key": "inputs", "value": value}
    if kind == "rename":
        return {"do": "rename", "path": path, "id": f"r{rng.randrange(10_000)}"}
    if kind == "wrap" and path.count(".") < 3:
        return {
            "do": "wrap",
            "path": path,
            "count": rng.randint(1, len(siblings) - index),
            "repeat": rng.choice([1, 2]),
        }
    if kind == "unwrap" and node["nodes"] is not None:
        return {"do": "unwrap", "path": path}
    if kind == "move":
        return {"do": "move", "path": path, "by": rng.choice([-2, -1, 1, 2])}
    if kind in ("remove", "duplicate"):
        return {"do": kind, "path": path}
    return {
        "do": "set",
        "path": path,
        "key": "repeat" if node["nodes"] else "heads",
        "value": rng.choice([None, 3]),
    }


SHARED = """\
name: shared
width: 16
nodes:
  - {id: block, nodes: [{id: mix, use: attention, heads: 2}, {use: swiglu}]}
  - {use: mamba2}
  - {id: again, share: block, nodes: [{id: mix, use: attention, heads: 2, lora: 2}, {use: swiglu}]}
  - id: outer
    nodes:
      - {use: attention, heads: 2, share: block.mix}
      - {id: inner, nodes: [{use: swiglu}, {id: mix, use: attention, inputs: [swiglu, input]}]}
      - {use: swiglu, share: inner.swiglu}
      - {use: sum, inputs: [inner, input]}
  - {use: attention, heads: 2, share: outer.inner.mix}
"""


@functools.cache
def starts() -> tuple[str, ...]:
    return (EMPTY, SHARED, *(entry.text() for entry in library.presets()))


def run(seed: int, steps: int = 6) -> tuple[str, list[dict[str, Any]], str]:
    """Return a start, changes that can be made on it one after the other, and the end."""
    rng = random.Random(seed)
    start = text = rng.choice((*starts(), *[SHARED] * 8))
    made = []
    while len(made) < steps:
        change = random_change(text, rng)
        try:
            text = make(text, [CHANGES.validate_python(change)])
        except HybridLabError:
            continue
        made.append(change)
    return start, made, text


def cases(count: int = 150) -> list[dict[str, Any]]:
    """Return start, changes and end as trees, for the front end's copy of the edits."""
    found = []
    for seed in range(count):
        start, changes, end = run(seed)
        found.append({"before": readable(start), "changes": changes, "after": readable(end)})
    return found


def written() -> str:
    return json.dumps(cases(), separators=(",", ":")) + "\n"


if __name__ == "__main__":
    CASES.write_text(written(), encoding="utf-8")
