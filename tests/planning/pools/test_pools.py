"""Pools decide where tensors lie and nothing else: judged operator by operator, on stand-ins for torch's own."""

from __future__ import annotations

import contextlib
import copy
import gc
import threading
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, Slot, build
from hybridlab.architecture.program import program
from hybridlab.errors import DeviceError, SpecError
from hybridlab.hardware.meters.allocator import Held
from hybridlab.planning.pools.apply import Pooled, pool
from hybridlab.planning.pools.backend import PoolBytes, TorchPools, lacking
from hybridlab.planning.pools.groups import grouped
from hybridlab.trace.attribution import Attribution, components_of
from hybridlab.training.pool_spec import PoolSpec
from hybridlab.training.spec import make
from hybridlab.workflows import pool_check
from hybridlab.workflows.as_trained import as_trained
from hybridlab.workflows.launch import prepared
from hybridlab.workflows.pool_check import check_pools
from tests.planning.pools.stand_in import FakePools, Watch
from tests.planning.steps import NODES, equal, steps, text, with_spans

SMALL = "name: small\nwidth: 8\nnodes:\n  - {use: lstm}\n"


def made(name: str) -> GraphModel:
    return build(loads(text(NODES[name])), seed=0)


def given() -> Tensor:
    return torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(0))


def one_each(model: GraphModel, *, backward: bool = False) -> list[PoolSpec]:
    paths = [path for path, _ in model.slots()]
    return [
        PoolSpec(name=f"p{place}", match=path, backward=backward)
        for place, path in enumerate(paths)
    ]


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", list(NODES))
def test_steps_with_pools_are_equal_bit_for_bit(name: str, backward: bool) -> None:
    plain = steps(made(name), given())
    model, backend = made(name), FakePools()
    pooled = Pooled(model, one_each(model, backward=backward), backend)
    assert equal(plain, steps(model, given()))
    assert len(backend.made) == len(pooled.members) and all(one.uses for one in backend.made)
    assert not backend.active
    pooled.close()


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", ["chain", "post", "skips", "recurrent"])
def test_operators_of_a_component_and_no_others_allocate_from_its_pool(
    name: str, backward: bool
) -> None:
    model, backend = made(name), FakePools()
    pooled = Pooled(model, one_each(model, backward=backward), backend)
    with Attribution(components_of(model)) as judge, Watch(backend, judge) as watch:
        loss = model(given()).square().mean()
        forward = len(watch.made)
        loss.backward()
    paths = {id(one): pooled.members[name][0] for name, one in pooled._pools.items()}
    whose = [(one, paths.get(id(one.pool))) for one in watch.made]
    for one, path in whose[:forward]:
        assert path == (one.owner if one.owner in paths.values() else None)
    for one, path in whose[forward:]:
        mine = one.node is not None and one.node < 2**63 and one.owner in paths.values()
        if path is None and one.op == "aten.add.Tensor":
            continue  # autograd's own sum of gradients, made when the node has ended
        assert path == (one.owner if mine and backward else None), one
    assert {path for _, path in whose[:forward]} >= set(paths.values())
    assert bool({path for _, path in whose[forward:]} - {None}) is backward
    told = {one["components"][0]: one["allocated_bytes"] for one in pooled.as_dict()}
    assert all(told.values()) and set(told) == set(paths.values())
    assert all(" allocated of " in sentence for sentence in pooled.sentences())
    pooled.close()


def test_a_plan_computes_again_in_the_same_pools() -> None:
    plain = steps(made("chain"), given())
    for backward in (False, True):
        model, backend = made("chain"), FakePools()
        last = len(program(model).names) - 1
        with_spans(model, ((0, 1), (2, last)))
        pool = PoolSpec(name="mixers", kind="token_mixer", backward=backward)
        pooled = Pooled(model, [pool, PoolSpec(name="rest", backward=backward)], backend)
        assert equal(plain, steps(model, given()))
        assert not backend.active
        assert backend.made[0].uses >= 2 * 2 * 2, "two components, twice in each of two steps"
        pooled.close()


def test_two_pools_share_a_model_by_kind_and_depth_and_the_rest_stays() -> None:
    model = made("chain")
    mixers, late = (
        PoolSpec(name="mixers", kind="token_mixer", depth=(0.0, 0.5)),
        PoolSpec(name="late", depth=(0.6, 1.0)),
    )
    paths = [path for path, _ in model.slots()]
    assert grouped(model, [mixers, late]) == {"mixers": (paths[0],), "late": tuple(paths[2:])}
    assert grouped(model, [PoolSpec(name="all")]) == {"all": tuple(paths)}


def test_pools_that_take_nothing_are_told_all_at_once() -> None:
    model = made("chain")
    with pytest.raises(SpecError) as caught:
        grouped(
            model,
            [PoolSpec(name="all"), PoolSpec(name="a", use="mamba2"), PoolSpec(name="b", match="*")],
        )
    first, second = (problem.sentence() for problem in caught.value.problems)
    assert "pools[1]: 'a' fits no component" in first and "use: mamba2" in first
    assert "pools[2]: 'b' is left with no components" in second
    with pytest.raises(SpecError, match="is the name of another pool too"):
        grouped(model, [PoolSpec(name="all"), PoolSpec(name="all")])


def test_what_fails_inside_a_pool_leaves_none_open() -> None:
    model, backend = made("recurrent"), FakePools()
    pooled = Pooled(model, one_each(model, backward=True), backend)
    slot = next(slot for _, slot in model.slots())

    def fails(*_: Any) -> None:
        raise ValueError("in the middle")

    hook = slot.body.register_forward_hook(fails)
    with pytest.raises(ValueError, match="in the middle"):
        model(given())
    assert not backend.active
    hook.remove()
    backend.fails = True  # the second component's pool is not there yet
    with pytest.raises(RuntimeError, match="out of memory"):
        model(given())
    assert not backend.active
    backend.fails = False
    inner = model(given())
    inner.grad_fn.register_prehook(fails)
    with pytest.raises(ValueError, match="in the middle"):
        inner.sum().backward()
    plain = steps(made("recurrent"), given())
    model.zero_grad(set_to_none=True)
    assert equal(plain, steps(model, given()))
    assert not backend.active
    pooled.close()


def test_another_thread_allocates_elsewhere_rather_than_failing() -> None:
    model, backend = made("chain"), FakePools()
    pooled = Pooled(model, [PoolSpec(name="all")], backend)
    plain, found, problems = model(given()).detach(), [], []

    def run() -> None:
        try:
            found.append(model(given()).detach())
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and all(torch.equal(one, plain) for one in found) and len(found) == 4
    assert not backend.active
    pooled.close()


def test_closing_lets_the_pools_go_and_the_model_run_without() -> None:
    model, backend = made("chain"), FakePools()
    hooks = [len(slot._forward_hooks) for _, slot in model.slots()]
    pooled = Pooled(model, [PoolSpec(name="all", backward=True)], backend)
    loss = model(given()).sum()
    twin = copy.deepcopy(model)
    twin(given())
    assert len(backend.made) == 1, "a copy shares the pool"
    pools = [weakref.ref(backend.made.pop())]
    pooled.close()
    gc.collect()
    assert pools[0]() is None
    loss.backward()  # its nodes still know the pool's name; what they find is no pool that anyone keeps
    assert [len(slot._forward_hooks) for _, slot in model.slots()] == hooks
    model(given())


def test_without_the_setting_nothing_is_hung_on_a_model() -> None:
    def hooks(model: GraphModel) -> list[int]:
        return [
            len(m._forward_hooks) + len(m._forward_pre_hooks)
            for m in (model, *(slot for _, slot in model.slots()))
        ]

    model = made("chain")
    before = hooks(model)
    assert as_trained(model, make({"task": "parity", "device": "cpu"})) is None
    assert hooks(model) == before == [0] * len(before)
    assert pool(model, (), torch.device("cpu")) is None


def test_a_device_without_pools_is_refused_in_a_sentence_that_names_it() -> None:
    settings = {"task": "parity", "device": "cpu", "pools": [{"name": "all"}]}
    with pytest.raises(DeviceError) as caught:
        prepared(SMALL, settings)
    assert caught.value.problems[0].sentence() == (
        "pools: a CPU has no memory pools: torch takes each tensor from the system (expected a GPU, got cpu); "
        "leave pools out on this device"
    )
    assert lacking(torch.device("mps")) == "torch has no memory pools for mps devices"
    assert lacking(torch.device("cuda")) is None, "torch's module for it has them, GPU or not"
    stages = [{"name": "more", "steps": 5, "grow": {"blocks": 1}}]
    with pytest.raises(SpecError):
        make({**settings, "stages": stages})


class FakeModule:
    """What ``torch.get_device_module`` returns, as far as pools ask it; ``words`` is whether snapshots take some."""

    def __init__(self, *, words: bool, backend: str = "native") -> None:
        self.words, self.backend = words, backend
        self.done: list[Any] = []

    def get_allocator_backend(self) -> str:
        return self.backend

    @contextlib.contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        self.done.append(("on", device))
        yield
        self.done.append("off")

    @contextlib.contextmanager
    def use_mem_pool(self, pool: Any, device: torch.device) -> Iterator[None]:
        self.done.append(("into", pool, device))
        yield
        self.done.append(("out of", pool))

    def MemPool(self, *, use_on_oom: bool) -> Any:  # noqa: N802  (torch calls it so)
        assert use_on_oom
        self.done.append("made")
        segments = [{"total_size": 2 << 20, "allocated_size": 700}] * 2

        def with_words(include_traces: bool) -> list[Any]:
            assert not include_traces
            return segments

        return SimpleNamespace(snapshot=with_words if self.words else lambda: segments)


@pytest.mark.parametrize("words", [True, False])
def test_torchs_pools_are_made_on_the_device_and_told_by_their_snapshots(
    monkeypatch: pytest.MonkeyPatch, words: bool
) -> None:
    module, device = FakeModule(words=words), torch.device("cuda", 1)
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    backend = TorchPools(device)
    mine = backend.make()
    with backend.within(mine):
        module.done.append("inside")
    assert module.done == [
        *(("on", device), "made", "off"),
        *(("into", mine, device), "inside", ("out of", mine)),
    ]
    assert backend.bytes_of(mine) == PoolBytes(4 << 20, 1400)
    assert backend.bytes_of(mine).unused_bytes == (4 << 20) - 1400
    module.backend = "cudaMallocAsync"
    with pytest.raises(DeviceError, match="makes none in this process"):
        backend.make()


@pytest.mark.gpu
def test_pools_of_the_accelerator_here_change_nothing_and_are_given_back() -> None:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    found = check_pools(device)
    assert found.ok is not False, found
    assert found.ok or lacking(device)


class Counting(FakePools):
    """A stand-in that takes each entry for a kilobyte, where no watch counts real ones."""

    def bytes_of(self, pool: Any) -> PoolBytes:
        return PoolBytes(2048 * pool.uses, 1024 * pool.uses)


def test_the_doctors_check_sees_equal_gradients_and_tells_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    assert check_pools(cpu).ok is None
    assert check_pools(cpu).message.startswith("not checked: a CPU has no memory pools")
    found = check_pools(cpu, Counting())
    assert found.ok and found.bits_equal and found.difference == 0.0, found
    assert [one["name"] for one in found.pools] == ["mixers", "channels"]
    assert found.before and "no accelerator" in found.before["not_measured"]
    unused = check_pools(cpu, FakePools())
    assert unused.ok is False and unused.message == "the pool mixers, channels held nothing"
    slots = Slot.forward
    broken = Counting()

    def forward(slot: Slot, *inputs: Tensor, **more: Any) -> Tensor:
        return slots(slot, *inputs, **more) * (1 + 1e-3 * bool(broken.active))

    monkeypatch.setattr(Slot, "forward", forward)
    wrong = check_pools(cpu, broken)
    assert wrong.ok is False and "results differ by" in wrong.message
    monkeypatch.setattr(Slot, "forward", slots)
    reserved = iter((1 << 20, 5 << 20, 3 << 20))
    monkeypatch.setattr(pool_check, "held", lambda device: Held(0, next(reserved), 0, 0, 0, None))
    leaking = check_pools(cpu, Counting())
    assert leaking.ok is False
    assert leaking.message == "2 MiB stayed reserved when the pools were let go"
