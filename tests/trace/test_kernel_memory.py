"""What kernels take for themselves, and whole steps of what is made of them, against the profiler's own events."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.expected_choices import as_expected
from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import build
from hybridlab.components import diagonal_scan
from hybridlab.profiling.session import profiled, resident_bytes
from hybridlab.profiling.sweep import MEMORY_EVENT
from hybridlab.trace.attribution import Attribution
from hybridlab.trace.exact import predict_stream, record
from hybridlab.trace.handover import hand_overs
from hybridlab.trace.kernel_memory import kernel_memory
from hybridlab.trace.step import TrainingStep, default_loss, default_optimiser
from hybridlab.trace.stream import OpStream

aten = torch.ops.aten
_ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu.default


def _turned(*shape: int) -> Tensor:
    """Return numbers that do not lie row by row: the last two dimensions are exchanged."""
    *first, rows, columns = shape
    return torch.randn(*first, columns, rows).transpose(-1, -2)


def _heads() -> Tensor:
    return torch.randn(3, 4, 33, 20)


CALLS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "attention": (_ATTENTION, (_heads(), _heads(), _heads(), 0.0, True), {"scale": 0.3}),
    "attention with a mask": (
        _ATTENTION,
        (_heads(), _heads(), _heads()),
        {"attn_mask": torch.zeros(3, 4, 33, 33)},
    ),
    "transform": (aten._fft_r2c.default, (torch.randn(3, 72, 48), [1], 0, True), {}),
    "complex transform": (
        aten._fft_c2c.default,
        (torch.randn(3, 72, 48, dtype=torch.complex64), [1], 0, False),
        {},
    ),
    "norm of rows": (
        aten.native_layer_norm.default,
        (torch.randn(3, 33, 48), [48], None, None, 1e-5),
        {},
    ),
    "norm of columns": (
        aten.native_layer_norm.default,
        (_turned(3, 33, 48), [48], None, None, 1e-5),
        {},
    ),
    "log sigmoid": (aten.log_sigmoid_forward.default, (torch.randn(3, 33, 144)[..., :48],), {}),
    "sort": (aten.sort.stable, (torch.randint(9, (198,)),), {"stable": True}),
    "count": (aten.sum.dim_IntList, (torch.rand(4, 198) > 0.5, [1]), {}),
    "product of 16-bit numbers": (
        aten.mm.default,
        (_turned(64, 128).bfloat16(), torch.randn(1, 16).bfloat16().expand(128, 16)),
        {},
    ),
    "complex scan": (
        diagonal_scan._forward._opoverload,
        (
            torch.rand(48, dtype=torch.complex64).expand(3, 33, 48),
            torch.rand(3, 33, 48, dtype=torch.complex64),
        ),
        {},
    ),
}


def most_bytes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
    """Return the most bytes at once during a call, and those of what comes out."""
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        out = func(*args, **kwargs)
    assert profiler.profiler is not None
    events = [
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == MEMORY_EVENT
    ]
    now = most = 0
    for _, change in sorted(events):
        now += change
        most = max(most, now)
    made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
    return most, sum(tensor.untyped_storage().nbytes() for tensor in made)


@pytest.mark.parametrize("name", list(CALLS))
def test_a_kernels_scratch_on_fake_tensors_is_what_the_profiler_sees_of_it(name: str) -> None:
    func, args, kwargs = CALLS[name]
    with FakeTensorMode() as mode:
        fake = tree_map(
            lambda leaf: mode.from_tensor(leaf) if isinstance(leaf, Tensor) else leaf,
            [args, kwargs],
        )
        learned = kernel_memory(func, tuple(fake[0]), fake[1])
    most, given = most_bytes(func, args, kwargs)
    assert learned is not None
    assert sum(learned.output_bytes) == given
    assert learned.scratch_bytes == most - given
    if (
        name != "product of 16-bit numbers"
    ):  # what oneDNN lays out anew is the processor's to decide
        assert (learned.scratch_bytes == 0) == (name == "norm of rows")


def test_kernels_that_take_nothing_are_not_run() -> None:
    x = torch.randn(4, 4)
    for func in (aten.mul.Tensor, aten.mm.default):
        assert kernel_memory(func, (x, x)) is None
    assert kernel_memory(aten.sum.dim_IntList, (x, [1])) is None


STEPS = {
    "attention with an offset": "latent_attention",
    "attention to patterns": "hopfield",
    "transforms": "hyena",
    "complex scan": "lru",
    "lstm": "lstm",
    "loss of its own": "sparse_attention",
    "even experts": "moe",
    "the share asked for": "mixture_of_depths",
}
COUNTED_AS_ZERO = {"latent_attention", "hopfield", "lstm", "hyena"}
"""Torch's counter knows CUDA's kernels for these, not the CPU's, and no Fourier transforms at all."""


@pytest.mark.parametrize("use", STEPS.values(), ids=list(STEPS))
def test_small_odd_steps_take_what_is_predicted(use: str) -> None:
    """Where data decides, it is made to decide what the prediction expects; nothing else may differ."""
    text = (
        "name: x\nwidth: 48\nnodes:\n  - {use: token_embedding, vocab: 32}\n"
        f"  - {{use: {use}}}\n  - {{use: lm_head, vocab: 32}}\n"
    )
    architecture = loads(text)
    kind = infer(architecture).input
    predicted = predict_stream(architecture, kind, batch=3, length=33)
    model = build(architecture, kind, seed=0).train()
    step = TrainingStep(
        model, (torch.randint(16, (3, 33)),), default_loss, default_optimiser(model)
    )
    with as_expected():
        _, memory, _ = profiled(step, 1, torch.device("cpu"), None)
        measured = record(step, "measured")
        with FlopCounterMode(display=False) as counter:
            step.run(Attribution({}))
    now = peak = resident_bytes(step)
    for _, change in memory:
        now += change
        peak = max(peak, now)
    assert math.isclose(predicted.peak_bytes, peak, rel_tol=1e-3)
    assert _handed(predicted) == _handed(measured)
    assert predicted.flops == measured.flops
    if use not in COUNTED_AS_ZERO:
        assert predicted.flops == counter.get_total_flops() > 0


def _handed(stream: OpStream) -> dict[tuple[str, str], tuple[int, int]]:
    return {(x.writer, x.reader): (x.read_bytes, x.distinct_bytes) for x in hand_overs(stream)}
