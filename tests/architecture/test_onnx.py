"""ONNX graphs in onnxruntime: the outputs of the model at two sizes; what cannot be written is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.exporters import graph_forms
from hybridlab.architecture.exporters.onnx import OPSET, write_onnx
from hybridlab.architecture.model import build
from hybridlab.components.base import Kind
from hybridlab.components.registry import palette
from hybridlab.errors import SpecError

HYBRID = """
name: hybrid
width: 16
nodes:
  - {use: token_embedding, vocab: 20}
  - {use: mamba, state: 4}
  - {use: attention, heads: 2, window: 5}
  - {use: moe, experts: 3, top_k: 2}
  - {use: lm_head, vocab: 20}
"""


def test_a_hybrid_runs_at_any_size(tmp_path: Path) -> None:
    model = build(loads(HYBRID), seed=0)
    made = write_onnx(model, tmp_path / "hybrid.onnx", length=9)
    assert made.dynamic == ("batch", "length") and made.opset == OPSET and made.checked
    assert made.largest_difference is not None and made.largest_difference < 1e-4
    assert made.by_steps == ("mamba",)
    session = onnxruntime.InferenceSession(
        str(tmp_path / "hybrid.onnx"), providers=["CPUExecutionProvider"]
    )
    tokens = torch.randint(20, (4, 150), generator=torch.Generator().manual_seed(3))
    (theirs,) = session.run(None, {"x": tokens.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(theirs, model.eval()(tokens).numpy(), rtol=1e-3, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["hybrid.onnx"]


MANY = """
name: many
width: 16
nodes:
  - {use: attention, heads: 2, soft_cap: 20, sinks: true}
  - {use: slstm, heads: 2}
  - {use: gru}
  - {use: short_conv}
"""


def test_loops_kernels_and_custom_gradients_are_written_too(tmp_path: Path) -> None:
    made = write_onnx(build(loads(MANY), seed=0), tmp_path / "many.onnx", length=9)
    assert set(made.by_steps) == {"slstm"} and not made.fixed
    assert made.dynamic == ("batch", "length") and made.checked


RATES = """
name: rates
width: 8
nodes:
  - {id: short, use: downsample}
  - {use: mixture_of_depths, choice: threshold}
  - {use: upsample, inputs: [mixture_of_depths, input]}
"""


def test_rates_and_chosen_positions_are_written_for_any_length(tmp_path: Path) -> None:
    model = build(loads(RATES), seed=0)
    made = write_onnx(model, tmp_path / "rates.onnx", length=9)
    assert made.dynamic == ("batch", "length") and made.checked and not made.by_steps
    assert all("forward" not in slot.body.__dict__ for _, slot in model.slots())


def test_a_model_without_weights_is_written(tmp_path: Path) -> None:
    made = write_onnx(build(loads("name: x\nwidth: 8\nnodes: [{use: downsample}]")), tmp_path / "x")
    assert made.params == 0 and made.largest_difference == 0


def test_a_component_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    model = build(loads("name: no\nwidth: 8\nnodes: [{id: a, use: s4d}, {use: swiglu}]"))
    with pytest.raises(SpecError) as caught:
        write_onnx(model, tmp_path / "no.onnx")
    (problem,) = caught.value.problems
    assert problem.path == "a" and "complex" in problem.message and problem.fix
    assert not list(tmp_path.iterdir())


def test_how_each_mixer_is_written() -> None:
    ways: dict[str, set[str]] = {}
    for name, info in palette().items():
        if info.kind is Kind.TOKEN_MIXER and info.cls.min_inputs == 1:
            model = build(loads(f"name: x\nwidth: 16\nnodes: [{{id: a, use: {name}}}]"))
            (slot,) = [slot for _, slot in model.slots()]
            ways.setdefault(graph_forms.form_of(slot.body).way, set()).add(name)
    assert ways["none"] == {"s4d"}
    assert ways["fixed"] == {"convnext", "hyena"}
    assert {"attention", "latent_attention", "lstm", "gru", "short_conv"} <= ways["whole"]
    kernels = {"mamba", "mamba2", "rg_lru", "delta_net", "rwkv4", "slstm", "mlstm", "spiking_lif"}
    assert kernels <= ways["steps"]
