"""An exported Python file: equal outputs with the same weights, and nothing but torch in it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.exporters.pytorch import source_of
from hybridlab.architecture.infer import infer
from hybridlab.architecture.library import open_architecture, presets
from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture, Node
from hybridlab.components.base import Kind
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import HybridLabError
from hybridlab.tasks.registry import fit, task

TOKENS = TensorType(TensorKind.TOKENS, ("B", "L"), "int64")
EVERYTHING = """
name: "every way to \\"wire\\""
source: https://example.org
description: Back\\slash and more.
width: 16
norm: layer_norm
norm_eps: 0.001
nodes:
  - {id: for, use: token_embedding, vocab: 20, scale: 2.0}
  - id: stage
    repeat: 2
    residual: pre
    nodes:
      - {use: mamba2, heads: 2}
      - id: forward
        residual: post
        nodes:
          - {id: my-node, use: attention, heads: 2, inputs: [for], residual: none}
          - {use: sum, inputs: [my-node, input]}
      - {id: x, use: swiglu, residual: post}
  - id: shared
    repeat: 3
    tie: true
    nodes: [{use: gru}]
  - {id: left, use: short_conv, inputs: [stage]}
  - {id: join, use: gated_sum, inputs: [left, shared]}
  - {use: lm_head, vocab: 20, tied: true}
"""


def module_of(text: str, path: Path) -> ModuleType:
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


def same(architecture: Architecture, given: TensorType | None, path: Path) -> str:
    text = source_of(architecture, given)
    model = build(architecture, given, seed=0).eval()
    twin = module_of(text, path).Model().eval()
    twin.load_state_dict(model.state_dict())
    kind = given or infer(architecture).input
    sizes = [{"B": 2, "L": 13}.get(size, size) for size in kind.shape]
    x = torch.randint(8, sizes) if kind.dtype == "int64" else torch.randn(sizes)
    with torch.no_grad():
        torch.testing.assert_close(twin(x), model(x), rtol=1e-5, atol=1e-5)
    return text


def test_every_way_to_wire(tmp_path: Path) -> None:
    text = same(loads(EVERYTHING), TOKENS, tmp_path / "wired.py")
    assert "import hybridlab" not in text and "from hybridlab" not in text
    assert text.count("class Stage(") == 1
    assert "def step" not in text and "def reference" not in text and "def check" not in text


@pytest.mark.parametrize("name", [entry.name for entry in presets()])
def test_presets(name: str, tmp_path: Path) -> None:
    architecture = open_architecture(name)
    for wanted in ("python_bytes", "digits_image", "digits_sequence"):
        try:
            chosen = task(wanted)
            completed = fit(architecture, chosen)
        except HybridLabError:  # the task gives what the preset cannot read
            continue
        same(completed, chosen.input_type(), tmp_path / f"{name}_{wanted}.py")
        return
    same(architecture, None, tmp_path / f"{name}.py")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, info in palette().items()
        if info.kind not in (Kind.INPUT, Kind.MERGE)
        and TensorKind.SEQUENCE in info.cls.accepts
        and info.cls.min_inputs == 1
    ],
)
def test_every_component(name: str, tmp_path: Path) -> None:
    node = Node(id="only", use=name)
    same(Architecture(name=name, width=64, nodes=(node,)), None, tmp_path / f"{name}_alone.py")
