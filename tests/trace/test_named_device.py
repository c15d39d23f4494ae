"""Predictions for a named device: on its own fake tensors where torch can make them, else said to be a CPU's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.errors import DeviceError
from hybridlab.hardware import devices
from hybridlab.hardware.devices import Device
from hybridlab.hardware.published import PUBLISHED, published
from hybridlab.hardware.roofline import Roofline
from hybridlab.trace.exact import predict_stream
from hybridlab.trace.machine import speed_of
from hybridlab.trace.named_device import fake_device
from hybridlab.trace.ops import flops_of
from hybridlab.trace.predict import predict

TEXT = """
name: two
width: 16
nodes:
  - {use: token_embedding, vocab: 32}
  - {id: lstm, use: lstm}
  - {id: attention, use: attention, heads: 2}
  - {use: lm_head}
"""
aten = torch.ops.aten
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "H1000"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="kind of device"):
        fake_device(name)


@no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:3", "H100", "NVIDIA A100-SXM4-40GB"])
def test_a_device_that_is_not_here_is_traced_as_a_cpu_and_told(name: str) -> None:
    plain = predict_stream(loads(TEXT), batch=2, length=8)
    found = predict_stream(loads(TEXT), batch=2, length=8, device=name)
    assert found.ops.drop_columns(["start_us"]) == plain.ops.drop_columns(["start_us"])
    assert found.peak_bytes == plain.peak_bytes
    assert not plain.notes and len(found.notes) == 1
    assert "operators that a CPU takes" in found.notes[0]


def test_an_accelerator_that_is_not_here_has_its_published_speed() -> None:
    title, roofline = speed_of("H100")
    assert title == "NVIDIA H100 SXM" and roofline is not None
    found = predict(loads(TEXT), batch=2, length=8, roofline=roofline)
    assert "published by the maker, not measured here" in found.ceilings
    # 67 TFLOP/s and 3,350 GB/s: however small a step is, neither of the two may be beaten.
    assert found.step_ms >= 1e3 * found.flops_step / 67e12
    assert found.step_ms >= 1e3 * 7 * 4 * found.params / 3.35e12
    wide = loads(TEXT.replace("width: 16", "width: 2048"))
    slow = Roofline.of_published(next(peak for peak in PUBLISHED if peak.title == "NVIDIA T4"))
    fast = predict(wide, batch=2, length=8, roofline=roofline)
    assert predict(wide, batch=2, length=8, roofline=slow).step_ms > 2 * fast.step_ms


def test_an_accelerator_that_is_here_is_the_one_that_is_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = Device("cuda:0", "NVIDIA H100 80GB HBM3", 80 << 30, 70 << 30)
    monkeypatch.setattr(devices, "devices", lambda: [here])
    peak = published("H100")
    assert peak is not None and devices.called(peak) == "cuda:0"
    other = published("A100")
    assert other is not None and devices.called(other) is None


def test_a_speed_of_nothing_is_refused() -> None:
    assert speed_of("cpu") == ("cpu", None)
    with pytest.raises(DeviceError, match="no such device"):
        speed_of("cuda:77")


def test_recurrent_layers_and_attention_of_other_libraries_count_as_those_of_the_cpu() -> None:
    x, hidden = torch.empty(3, 5, 8, device="meta"), torch.empty(1, 3, 16, device="meta")
    into, through, bias = (
        torch.empty(*shape, device="meta") for shape in ((64, 8), (64, 16), (64,))
    )
    for forward, backward in (
        (aten._cudnn_rnn, aten._cudnn_rnn_backward),
        (aten.miopen_rnn, aten.miopen_rnn_backward),
    ):
        args = (x, [into, through, bias, bias], 4, None, hidden, hidden)
        once = flops_of(forward.default, args, {}, None)
        assert once == 2 * 3 * 5 * (64 * 8 + 64 * 16)
        assert flops_of(backward.default, args, {}, None) == 2 * once
    ours = flops_of(aten.mkldnn_rnn_layer.default, (x, into, through, bias, bias), {}, None)
    assert ours == once
    q = torch.empty(2, 4, 16, 8, device="meta")
    theirs = aten._scaled_dot_product_flash_attention
    mine = aten._scaled_dot_product_fused_attention_overrideable
    counted = flops_of(mine.default, (q, q, q), {}, None)
    assert counted == flops_of(theirs.default, (q, q, q), {}, (q,)) > 0


OTHER = """
import json, sys, types
import torch

class Guard(torch._C._acc.DeviceGuard):
    def type_(self):
        return torch._C._autograd.DeviceType.PrivateUse1

class Hooks(torch._C._acc.PrivateUse1Hooks):
    def is_built(self):
        return True
    def is_available(self):
        return True
    def has_primary_context(self, index):
        return True

torch.utils.rename_privateuse1_backend("other")
kept = Guard(), Hooks()
torch._C._acc.register_python_privateuseone_device_guard(kept[0])
torch._C._acc.register_python_privateuseone_hook(kept[1])
module = types.ModuleType("torch.other")
module.is_available = lambda: True
module.device_count = lambda: 1
module.current_device = lambda: 0
torch._register_device_module("other", module)

from hybridlab.architecture.document import loads
from hybridlab.trace.exact import predict_stream

found = []
for device in ("cpu", "other:0"):
    stream = predict_stream(loads(sys.argv[1]), batch=2, length=8, device=device)
    storages = stream.storages.select(["category", "bytes"]).to_pylist()
    found.append([stream.ops["op"].to_pylist(), storages, list(stream.notes)])
print(json.dumps(found))
"""


def test_a_device_that_is_here_chooses_its_own_operators() -> None:
    """A device that is none, but that torch takes for one that is here: fake tensors need no more of it."""
    top = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", OTHER, TEXT],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": top, "KINETO_LOG_LEVEL": "99"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (cpu, here, told), (other, there, noted) = json.loads(done.stdout.strip().splitlines()[-1])
    assert told == noted == []
    assert {"mkldnn_rnn_layer", "_scaled_dot_product_flash_attention_for_cpu"} <= set(cpu)
    assert not any("mkldnn" in op or "for_cpu" in op for op in other)
    assert "_thnn_fused_lstm_cell" in other
    for category in ("weights", "optimiser state", "gradients", "batch"):
        assert _bytes(here, category) == _bytes(there, category), category


def _bytes(storages: list[dict[str, Any]], category: str) -> Counter[int]:
    """Count the storages of a category by their size."""
    return Counter(one["bytes"] for one in storages if one["category"] == category)
