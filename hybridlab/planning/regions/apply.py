"""Lets modules of a model run compiled, each for itself, and as they were again; parameters stay the same objects."""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, RunError
from hybridlab.planning.compiled import missing_compiler, told
from hybridlab.planning.regions.record import Regions, Shapes
from hybridlab.profiling.session import device_of
from hybridlab.runs.verdict import is_out_of_memory

Backend = str | Callable[..., Any]
Say = Callable[[str], object]
_MOST_GRAPHS = 1024


class _NeverError(Exception):
    pass


class Region:
    """A module's forward, compiled for the sizes at which it was measured; anything else runs as it was.

    Plain are therefore: evaluation beside training; batches and lengths of other sizes (a training begins with small
    batches, to see what memory they take); modules that somebody watches by hooks; what runs under a dispatch or a
    function mode, which a compiled call would not show; and copies, since what is compiled holds the weights that it
    was compiled for. Nothing is compiled twice.
    """

    def __init__(
        self,
        module: nn.Module,
        shapes: Shapes,
        *,
        training: bool,
        broken: bool = False,
        backend: Backend = "inductor",
        on_failure: Callable[[Exception], object] | None = None,
    ) -> None:
        """Know the module; compiling waits for the first call.

        Args:
            module: whose forward it is.
            shapes: of what it reads where it runs compiled.
            training: whether it runs compiled in training steps; else in passes forward without gradients.
            broken: whether Python may run between several graphs; else it is one graph.
            backend: of ``torch.compile``.
            on_failure: hears why it cannot be compiled, and the module then stays plain; without it that is raised.
        """
        self.module = module
        self.training = training
        self.plain = module.forward
        self._shapes = shapes
        self.on_failure = on_failure
        self.on_compile: Callable[[], object] = lambda: None
        """Called when compiling begins."""
        self.on_other: Callable[[Shapes], object] = lambda shapes: None
        """Called each time that as many samples of other sizes run plain."""
        self.failed = False
        self._inner = [one for one in module.modules() if one is not module]
        self._sizes: tuple[object, ...] | None = None
        self._backend, self._broken = backend, broken
        self._compiled: Callable[..., Any] = self.plain
        self._many: type[Exception] = _NeverError

    @property
    def ready(self) -> bool:
        """Whether it has been compiled."""
        return self._sizes is not None and not self.failed

    def __call__(self, *inputs: Tensor, **beside: Any) -> Tensor:
        """Compute what the module does; with anything ``beside`` its inputs, such as where padding begins, plainly."""
        given = {name: value for name, value in beside.items() if value is not None}
        if given or self.failed or not self._runs_compiled():
            return self.plain(*inputs, **given)  # type: ignore[no-any-return]
        shapes = tuple(tuple(x.shape) for x in inputs)
        if shapes != self._shapes:
            if shapes[0][:1] == self._shapes[0][:1]:
                self.on_other(shapes)
            return self.plain(*inputs)  # type: ignore[no-any-return]
        sizes = tuple(map(_size, inputs))
        if self._sizes is None:
            return self._first(sizes, inputs)
        if sizes != self._sizes:
            return self.plain(*inputs)  # type: ignore[no-any-return]
        try:
            return self._compiled(*inputs)  # type: ignore[no-any-return]
        except self._many as error:  # told before anything has run
            return self._without(error, inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Region:
        """Return the region of a copied module, which stays plain."""
        other = copy.copy(self)
        memo[id(self)] = other
        other.module, other.plain = copy.deepcopy((self.module, self.plain), memo)
        other._inner = copy.deepcopy(self._inner, memo)
        other._compiled, other._sizes, other.failed = other.plain, None, True
        return other

    def _runs_compiled(self) -> bool:
        return (
            self.module.training is self.training
            and torch.is_grad_enabled() is self.training
            and not torch.compiler.is_compiling()
            and not torch._C._len_torch_dispatch_stack()
            and all(isinstance(one, DeviceContext) for one in _get_current_function_mode_stack())  # type: ignore[no-untyped-call]
            and not any(one._forward_hooks or one._forward_pre_hooks for one in self._inner)
        )

    def _first(self, sizes: tuple[object, ...], inputs: Sequence[Tensor]) -> Tensor:
        """Compile, and run."""
        from torch._dynamo.exc import FailOnRecompileLimitHit

        self.on_compile()
        try:
            self._compiled = torch.compile(
                self.plain, backend=self._backend, dynamic=False, fullgraph=not self._broken
            )
            with _limits():
                output: Tensor = self._compiled(*inputs)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return self._without(error, inputs)
        self._sizes, self._many = sizes, FailOnRecompileLimitHit
        return output

    def _without(self, error: Exception, inputs: Sequence[Tensor]) -> Tensor:
        """Stay plain from now on, and say why, where somebody hears that."""
        if self.on_failure is None:
            raise error
        self.failed = True
        self.on_failure(error)
        return self.plain(*inputs)  # type: ignore[no-any-return]


class Compiled:
    """Some regions of one model, on or off."""

    def __init__(self, model: GraphModel, regions: Mapping[str, Region], record: Regions) -> None:
        """Know the regions by their paths; nothing changes yet."""
        self.model = model
        self.regions = dict(regions)
        self.record = record

    def on(self) -> None:
        """Run the regions compiled from now on."""
        for region in self.regions.values():
            region.module.__dict__["forward"] = region

    def off(self) -> None:
        """Run the model as it was."""
        for region in self.regions.values():
            region.module.__dict__.pop("forward", None)


def made(
    model: GraphModel, record: Regions, *, backend: Backend = "inductor", say: Say | None = None
) -> Compiled:
    """Return the regions of a record for a model; compiling waits for the first step.

    With ``say``, each region tells when it is compiled, and one that cannot be is told and stays plain.

    Raises:
        RunError: the record was made for another architecture, or names what is not there; all of it.
    """
    _check(model, record)
    modules = dict(model.named_modules())
    regions = {
        path: Region(
            modules[path],
            shapes,
            training=record.training,
            broken=path in record.broken,
            backend=backend,
            on_failure=functools.partial(_stays, path, say) if say is not None else None,
        )
        for path, shapes in zip(record.paths, record.shapes, strict=True)
    }
    if say is not None:
        telling = _Telling(say, len(regions))
        for path, region in regions.items():
            region.on_compile = functools.partial(telling.compiles, path)
            region.on_other = functools.partial(telling.other, path, region)
    return Compiled(model, regions, record)


def compile_regions(
    model: GraphModel, record: Regions, device: torch.device, batch: int, say: Say
) -> None:
    """Let a model train with regions compiled from now on; they are compiled in its first step, and each tells so.

    Where the machine has no compiler for the device, that is told and the model stays as it is.

    Raises:
        RunError: the regions were measured for inference, on another kind of device, with another batch or for another
            architecture, or name what is not there.
    """
    if not record.training:
        fix = "measure them with `hybridlab fuse --regions --for training`"
        raise RunError(Problem("regions", "were measured for inference", "for training", fix=fix))
    if record.device != device.type:
        fix = "measure them on this kind of device"
        what = "were measured on another kind of device"
        raise RunError(Problem("regions", what, device.type, record.device, fix))
    if record.batch != batch:
        what, fix = "were measured with another batch", "measure them with this batch"
        raise RunError(Problem("regions", what, f"{batch}", f"{record.batch}", fix))
    compiled = made(model, record, say=say)
    meta = device_of(model).type == "meta"  # it is only looked at, and never runs
    if not meta and (missing := missing_compiler(device)):
        say(f"regions stay as they are: {missing}")
        return
    compiled.on()


class _Telling:
    """Tells which region is compiled, and once of each that what it reads is not what it was measured on."""

    def __init__(self, say: Say, count: int) -> None:
        self._say, self._count = say, count
        self._begun = 0
        self._told: set[str] = set()

    def compiles(self, path: str) -> None:
        self._begun += 1
        self._say(f"compiling region {self._begun} of {self._count}, {path} …")

    def other(self, path: str, region: Region, shapes: Shapes) -> None:
        if path not in self._told and not region.ready:
            self._told.add(path)
            self._say(f"region {path} runs as it is: it reads {shapes}, and was measured on others")


def _stays(path: str, say: Say, error: Exception) -> None:
    say(f"region {path} cannot be compiled here and stays as it is: {told(error)}")


def _check(model: GraphModel, record: Regions) -> None:
    """Refuse regions that are not a model's.

    Raises:
        RunError: it holds all problems.
    """
    wanted, found = model.architecture.fingerprint, record.fingerprint
    if wanted != found:
        what = "were measured for another architecture"
        fix = "measure this one"
        raise RunError(Problem("regions", what, f"fingerprint {wanted}", found, fix))
    modules = dict(model.named_modules())
    problems = []
    if len(record.shapes) != len(record.paths):
        what = "are not those of each of the paths"
        expected, got = f"{len(record.paths)}", f"{len(record.shapes)}"
        problems.append(Problem("regions.shapes", what, expected, got))
    for at, path in enumerate(record.paths):
        where = f"regions.paths[{at}]"
        outer = next((one for one in record.paths if path.startswith(f"{one}.")), "")
        if not path or path not in modules:
            problems.append(Problem(where, "is no part of this model", got=path))
        elif path in record.paths[:at]:
            problems.append(Problem(where, "is there twice", got=path))
        elif outer:
            problems.append(Problem(where, f"lies within {outer}, which is a region", got=path))
    problems += [
        Problem(f"regions.broken[{at}]", "is none of the paths", got=path)
        for at, path in enumerate(record.broken)
        if path not in record.paths
    ]
    if problems:
        raise RunError(problems)


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Compile in this process and thread, forward and backward at once, and let every region have graphs of its own."""
    import torch._dynamo
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor

    limits = {"recompile_limit": _MOST_GRAPHS, "accumulated_recompile_limit": _MOST_GRAPHS}
    with (
        torch._dynamo.config.patch(limits),
        functorch.patch(force_non_lazy_backward_lowering=True),
        inductor.patch(compile_threads=1),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter(
            "ignore"
        )  # what the compiler finds remarkable is nothing that a person could change
        yield


def _size(x: Any) -> object:
    if not isinstance(x, Tensor):
        return x
    return x.shape, x.stride(), x.dtype, x.device, x.requires_grad
