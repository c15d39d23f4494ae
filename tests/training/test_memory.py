"""Batches that do not fit: said before or after the memory ran out, with one that fits, and the next run works."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hybridlab.errors import DeviceError
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import task
from hybridlab.training import memory
from hybridlab.training.loop import train
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec
from hybridlab.training.weights import weights_sha256
from tests.training.conftest import Noisy, Tiny

Settings = Callable[..., TrainSpec]

REAL = """
    import resource, sys
    from pathlib import Path
    import psutil, torch
    torch.set_num_threads(1)
    from hybridlab.architecture.document import loads
    from hybridlab.architecture.model import build
    from hybridlab.errors import DeviceError
    from hybridlab.tasks.registry import fit
    from hybridlab.training import memory
    from hybridlab.training.defaults import prepare
    from hybridlab.training.loop import train

    if sys.argv[2] == "after":
        memory.foresee = lambda *arguments: None
    settings = {"task": "parity", "task_params": {"length": 64}, "steps": 2, "eval_every": 5, "seed": 1}
    what, _ = prepare(settings)
    nodes = "[{use: attention, heads: 2}, {use: swiglu}]"
    design = fit(loads(f"{{name: x, width: 64, nodes: {nodes}}}"), what)

    def run(batch):
        spec = prepare({**settings, "batch": batch})[1]
        model = build(design, what.input_type(), seed=0)
        return train(model, what, spec, folder=Path(sys.argv[1]))

    run(8)
    limit = psutil.Process().memory_info().vms + 150 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        run(65536)
    except DeviceError as error:
        text = str(error)
        print(text)
        fitting = int(text.split("; batch ")[1].split()[0])
        print(run(fitting).steps, fitting)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_running_out_of_memory_names_a_batch_that_fits(tmp_path: Path, when: str) -> None:
    # blocks of their own go back to the system, so that the limit on addresses measures what is in use
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REAL), str(tmp_path), when],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    message, outcome = done.stdout.strip().splitlines()
    assert "65536 samples at once do not fit into the memory of cpu" in message
    assert "set accumulation to" in message
    steps, fitting = map(int, outcome.split())
    assert steps == 2 and 32 <= fitting < 65536


def test_what_a_sample_needs_is_foreseen_within_a_factor(tiny: Tiny, settings: Settings) -> None:
    what = task("parity", length=32)
    model = tiny(what, "use: attention, heads: 2", "use: swiglu", width=32)
    each = memory.bytes_per_sample(model, what, numerics(settings()), 0)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    batch = what.train_batch(0, 64, 0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = what.loss(model(batch.inputs), batch)
    assert each == pytest.approx(sum(kept.values()) / 64, rel=0.25)
    del loss


def test_measuring_changes_nothing(tiny: Tiny, settings: Settings, parity: Task) -> None:
    model = Noisy(nn.Sequential(tiny(parity), nn.BatchNorm1d(8)))
    torch.manual_seed(3)
    state, before = torch.get_rng_state(), weights_sha256(model)
    assert memory.bytes_per_sample(model, parity, numerics(settings()), 0) > 0
    assert torch.equal(state, torch.get_rng_state()) and weights_sha256(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_measuring_leaves_nothing_behind(tiny: Tiny, settings: Settings, parity: Task) -> None:
    """A norm's operation keeps its own result: through a hook that hands it back it would hold itself for ever."""
    model = tiny(parity, "use: attention, heads: 2", "use: swiglu, residual: pre")

    def living() -> int:
        gc.collect()
        return sum(isinstance(one, torch.Tensor) for one in gc.get_objects())

    memory.bytes_per_sample(model, parity, numerics(settings()), 0)
    before = living()
    memory.bytes_per_sample(model, parity, numerics(settings()), 0)
    assert living() == before


@pytest.mark.parametrize(("free", "fitting"), [(10_000, 32), (1_000_000, 256), (2_300, 8)])
def test_the_batch_that_is_named_fits_and_is_a_power_of_two(
    settings: Settings, free: int, fitting: int
) -> None:
    problem = memory.too_large(settings(batch=512), 100.0, free, torch.device("cpu"))
    found = re.search(
        r"batch (\d+) fits; or keep batch 512 and set accumulation to (\d+)", problem.fix
    )
    assert found is not None
    batch, parts = int(found[1]), int(found[2])
    assert batch == fitting
    assert 2 * batch * 100 <= free and 2 * -(-512 // parts) * 100 <= free


def test_a_sample_that_does_not_fit_at_all_is_said(settings: Settings) -> None:
    problem = memory.too_large(settings(), 1e9, 1_000_000, torch.device("cpu"))
    assert "not even one sample fits" in problem.sentence()


def test_memory_that_cannot_be_asked_halves_the_batch(settings: Settings) -> None:
    problem = memory.too_large(settings(batch=64), 1e9, None, torch.device("cpu"))
    assert "try batch 32" in problem.sentence()


class Hungry(nn.Module):
    """A model that cannot get memory for more than a few samples."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        output: Tensor = self.inner(x)
        return output


def test_an_accelerators_error_is_explained_and_memory_let_go(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    model = Hungry(tiny(parity))
    with pytest.raises(DeviceError, match="6 samples at once do not fit") as caught:
        train(model, parity, settings(batch=6), folder=tmp_path)
    assert "batch 4 fits" in str(caught.value)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (
        train(model, parity, settings(batch=6, accumulation=2), folder=tmp_path / "b").steps == 12
    )


def test_other_errors_stay_what_they_are(
    tiny: Tiny, settings: Settings, tmp_path: Path, parity: Task
) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x.float() @ self.weight

    with pytest.raises(RuntimeError, match="shape"):
        train(Broken(), parity, settings(), folder=tmp_path)
