"""Which components a graph of ONNX can hold: each alone, exported, and held against itself in onnxruntime.

    python benchmarks/onnx_components.py
    python benchmarks/onnx_components.py --only attention mamba2

A component passes where onnxruntime gives its outputs at two sizes of batch and length (one, where it keeps the length
fixed). ``whole`` runs as it stands, ``steps`` position by position in ONNX's Scan, ``masked`` as its naive form. Prints
a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from hybridlab.architecture.exporters.graph_forms import form_of
from hybridlab.architecture.exporters.onnx import write_onnx
from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture, Node
from hybridlab.components.base import Kind
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import HybridLabError

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
WIDTH, LENGTH = 16, 19
READS = {
    TensorKind.TOKENS: TensorType(TensorKind.TOKENS, ("B", "L"), "int64"),
    TensorKind.SERIES: TensorType(TensorKind.SERIES, ("B", "L", 1)),
    TensorKind.IMAGE: TensorType(TensorKind.IMAGE, ("B", 1, 28, 28)),
}


def alone(name: str) -> tuple[Architecture, TensorType | None]:
    """Return an architecture of one component, and what it reads; a merge joins the input and a map of it.

    ``upsample`` reads what ``downsample`` makes of the input.
    """
    info = palette()[name]
    given = next((READS[kind] for kind in READS if kind in info.cls.accepts), None)
    nodes = [Node(id="only", use=name)]
    if info.cls.min_inputs > 1:
        before = [Node(id="other", use="swiglu", inputs=("input",))]
        if name.startswith("hyper"):
            before.append(Node(id="streams", use="hyper_read", inputs=("input",)))
        nodes = [*before, Node(id="only", use=name, inputs=("input", "other"))]
    if name == "upsample":
        short = Node(id="short", use="downsample", inputs=("input",))
        nodes = [short, Node(id="only", use=name, inputs=("short", "input"))]
    if info.kind is not Kind.INPUT and TensorKind.SEQUENCE in info.cls.accepts:
        given = None
    return Architecture(name=name, width=WIDTH, nodes=tuple(nodes)), given


def tried(name: str, folder: Path) -> dict[str, object]:
    """Export one component and return what came of it."""
    started = time.perf_counter()
    found: dict[str, object] = {"component": name, "way": "", "difference": None, "why": ""}
    try:
        architecture, given = alone(name)
        model = build(architecture, given, seed=0)
        body = dict(model.slots())["only"].body
        form = form_of(body)
        found |= {"way": form.way, "why": form.why}
        made = write_onnx(model, folder / f"{name}.onnx", batch=3, length=LENGTH)
        found |= {"difference": made.largest_difference, "sizes": list(made.dynamic)}
    except HybridLabError as error:
        found |= {"way": "none", "why": error.problems[0].sentence()}
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    """Try the components and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None, help="Try these components.")
    chosen = parser.parse_args().only or list(palette())
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            row = tried(name, Path(folder))
            rows.append(row)
            apart = "" if row["difference"] is None else f"{row['difference']:.1e}"
            print(
                f"{name:24} {row['way']:6} {apart:8} {row['seconds']:6} s  {row['why']}", flush=True
            )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "onnx_components.json").write_text(json.dumps(rows, indent=1) + "\n")
    passed = sum(row["way"] != "none" for row in rows)
    print(f"{passed} of {len(rows)} components can be written")


if __name__ == "__main__":
    main()
