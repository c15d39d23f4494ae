"""Measures a step compiled by PyTorch with its own memory budget: one more candidate beside the planner's plans.

The budget is ``torch._functorch.config.activation_memory_budget``, a share of what a compiled step keeps for backward.
With random operations in the step its gradients are wrong without a word (pytorch#190758), so such a step is refused;
the gradients of every other one are held against those of the plain step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import statistics
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.program import Program, program
from hybridlab.errors import Problem, RunError, SpecError
from hybridlab.planning.budgets.stretches import one_for_each, paths
from hybridlab.planning.measure import measured_peak
from hybridlab.planning.recompute import Recomputing
from hybridlab.planning.record import Figures
from hybridlab.profiling.session import device_of, timed
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.trace.attribution import Attribution, components_of
from hybridlab.trace.step import TrainingStep
from hybridlab.training.precision import numerics
from hybridlab.training.spec import TrainSpec

TOLERANCE = 1e-2
"""The largest difference of gradients that counts as rounding, as a share of their norm."""
_MOST_GRAPHS = 1024
Backend = str | Callable[..., Any]
"""What compiles, for PyTorch: a name, or the function itself."""


@dataclass(frozen=True)
class CompiledStep:
    """What a compiled step takes; the other fields are those of ``CompiledPoint``."""

    figures: Figures
    graphs: int
    compile_s: float
    difference: float


def check_compared(spec: TrainSpec) -> None:
    """Refuse settings whose steps are not all the same step of one model, as it is, in float32 and in one part.

    Raises:
        SpecError: it names all of them.
    """
    wrong = (
        ("tasks", spec.tasks is not None, "each of several tasks has a step of its own kind"),
        ("stages", bool(spec.stages), "the step changes from stage to stage"),
        ("teacher", spec.teacher is not None, "the teacher runs beside the model in each step"),
        ("fusion", spec.fusion is not None, "it is the step as designed that is compiled"),
        ("tuning", spec.tuning is not None, "it is the step as designed that is compiled"),
        ("precision", numerics(spec).dtype is not None, f"{spec.precision} casts in the step"),
        ("accumulation", spec.accumulation > 1, "gradients stay from part to part"),
    )
    problems = [
        Problem(name, f"is not compared: {why}", fix="leave it out")
        for name, is_so, why in wrong
        if is_so
    ]
    if problems:
        raise SpecError(problems)


def measure_compiled(
    step: TrainingStep,
    share: float,
    *,
    steps: int = 10,
    by_component: bool = False,
    shares: Sequence[float | None] = (),
    backend: Backend = "inductor",
) -> CompiledStep:
    """Compile a step's model under a budget, check its gradients, and measure it; the model is plain afterwards.

    Args:
        step: the training step; weights change as in training.
        share: PyTorch's budget, 0 to 1, of what a compiled step keeps for backward.
        steps: how many steps are timed.
        by_component: compile each component alone, so that a plan of the model goes on; else the model as a whole.
        shares: budgets of each instruction of the program that the model runs by (its own one, if nothing else is set),
            which is then compiled alone under it; None leaves one as it is, as those must be that draw random numbers.
            ``share`` is of no matter then.
        backend: what compiles the graphs once PyTorch has divided them into forward and backward.

    Raises:
        RunError: the step draws random numbers, cannot be compiled, or its gradients are not those of the plain step.
    """
    if not 0 <= share <= 1:
        raise RunError(Problem("budget", "is out of range", "0 to 1", f"{share:g}"))
    if drawing := drawn_by(step, _compiled_paths(step.model, shares) if shares else None):
        raise RunError(blocked(drawing))
    plain = _gradients(step)
    if shares:
        wanted = _under_shares(step.model, shares, backend)
    else:
        modules = _components(step.model) if by_component else [step.model]
        wanted = dict.fromkeys(modules, backend)
    with _budget(share), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        try:
            for module, compiler in wanted.items():
                module.compile(backend=compiler, dynamic=False)
            compiled = _gradients(step)
            compile_s = time.perf_counter() - began
            graphs = graphs_made()
            _checked(graphs, difference := _apart(plain, compiled))
            del plain, compiled
            times = timed(step, steps, device_of(step.model))
            peak_bytes = measured_peak(step, follow=False)
        except RunError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise RunError(_failed(error)) from None
        finally:
            for module in wanted:
                module._compiled_call_impl = None
            torch._dynamo.reset()
    figures = Figures(peak_bytes=peak_bytes, step_ms=statistics.median(times))
    return CompiledStep(figures, graphs, compile_s, difference)


def measure_plain(step: TrainingStep, *, steps: int = 10) -> Figures:
    """Measure a step as it is, the way that a compiled one is measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = timed(step, steps, device_of(step.model))
        return Figures(
            peak_bytes=measured_peak(step, follow=False), step_ms=statistics.median(times)
        )


def missing_compiler(device: torch.device) -> str:
    """Say which compiler PyTorch's own one needs for a device and does not find; empty where it is there."""
    if device.type != "cpu":
        return ""  # which one a device needs is told when compiling fails
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError:  # InvalidCxxCompiler
        return "there is no C++ compiler (g++ or clang++), which PyTorch's compiler needs on a CPU"
    return ""


def drawn_by(step: TrainingStep, among: Collection[str] | None = None) -> str:
    """Name the first operator of a step's forward that draws random numbers, and where; empty where none does.

    With ``among`` only components at these paths count.
    """
    found = draws(step).items()
    some = (f"{what} in {path}" for path, what in found if among is None or path in among)
    return next(some, "")


def draws(step: TrainingStep) -> dict[str, str]:
    """Return the components of a step's forward that draw random numbers, each with its first operator that does."""
    attribution = Attribution(components_of(step.model))
    watched = _Draws(attribution)
    gradients = contextlib.nullcontext() if step.loss is not None else torch.no_grad()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), gradients:
        warnings.simplefilter("ignore")
        with attribution, watched, step.around():
            output = step.model(*step.inputs)
            if step.loss is not None:
                step.loss(output)
    return watched.found


def blocked(drawing: str) -> Problem:
    """Return what is wrong with a compiled budget for a step that draws random numbers."""
    return Problem(
        "compile",
        f"is not measured: {drawing} draws random numbers, and with a budget below 1 PyTorch's gradients are then "
        "wrong without a word (pytorch#190758)",
        fix="use a plan, which puts random states back",
    )


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the first operator of each component that reads the random state."""

    def __init__(self, attribution: Attribution) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.attribution = attribution
        self.found: dict[str, str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if _random(func, args, kwargs or {}):
            self.found.setdefault(self.attribution.now(), func.name())
        return func(*args, **(kwargs or {}))


def _random(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Say whether an operator draws random numbers; attention with a dropout of zero, for one, could but does not."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    for place, one in enumerate(func._schema.arguments):
        given = args[place] if place < len(args) else kwargs.get(one.name, one.default_value)
        if one.name in ("p", "dropout_p") and given == 0:
            return False
    return True


@contextlib.contextmanager
def _budget(share: float) -> Iterator[None]:
    """Set PyTorch's budget, with nothing compiled before, and let every component have a graph of its own."""
    import torch._dynamo
    import torch._functorch.config as functorch

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with functorch.patch(activation_memory_budget=share), wide_limits():
        yield


@contextlib.contextmanager
def wide_limits() -> Iterator[None]:
    """Let every component have graphs of its own: they are all compiled from the same line of PyTorch's."""
    import torch._dynamo

    limits = {
        "recompile_limit": _MOST_GRAPHS,
        "accumulated_recompile_limit": _MOST_GRAPHS,
    }
    with torch._dynamo.config.patch(limits):
        yield


def graphs_made() -> int:
    """Return how many graphs were compiled since counting began."""
    return int(torch._dynamo.utils.counters["stats"].get("unique_graphs", 0))


@functools.cache
def under(backend: Backend, share: float) -> Callable[..., Any]:
    """Return what compiles as a backend does, but under one of PyTorch's budgets, whatever is set elsewhere.

    It is one function for one share: PyTorch takes what was compiled by another one for something else.
    """
    import torch._functorch.config as functorch
    from torch._dynamo import lookup_backend

    compiler = lookup_backend(backend)

    def compiled(graph: Any, inputs: Any, **more: Any) -> Any:
        with functorch.patch(activation_memory_budget=share):
            return compiler(graph, inputs, **more)

    return compiled


def _under_shares(
    model: nn.Module, shares: Sequence[float | None], backend: Backend
) -> dict[nn.Module, Backend]:
    """Return what compiles each module of a model's program.

    Raises:
        RunError: there are not as many budgets as instructions, or one is out of range.
    """
    written = _written(model)
    one_for_each(written, shares)
    if wrong := [share for share in shares if share is not None and not 0 <= share <= 1]:
        raise RunError(Problem("budget", "is out of range", "0 to 1", f"{wrong[0]:g}"))
    found: dict[nn.Module, Backend] = {}
    for one, share in zip(written.instructions, shares, strict=True):
        if one.module is not None and share is not None:
            found.setdefault(one.module, under(backend, share))
    return found


def _compiled_paths(model: nn.Module, shares: Sequence[float | None]) -> set[str]:
    pairs = zip(_written(model).instructions, shares, strict=False)
    return {path for one, share in pairs if share is not None for path in paths(one)}


def _written(model: nn.Module) -> Program:
    """Return the program that a model runs by."""
    assert isinstance(model, GraphModel)
    running = model.running
    return running.program if isinstance(running, Recomputing) else program(model)


def _components(model: nn.Module) -> list[nn.Module]:
    """Return what runs in a model's program, each module once."""
    assert isinstance(model, GraphModel)
    modules = (one.module for one in program(model).instructions)
    return list(dict.fromkeys(module for module in modules if module is not None))


def _gradients(step: TrainingStep) -> list[Tensor]:
    """Return the gradients of one step from one random state; nothing is updated."""
    found: list[Tensor] = []

    def keep() -> None:
        found.extend(p.grad.clone() for p in step.parameters if p.grad is not None)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dataclasses.replace(step, optimiser=None).run(Attribution({}), after_backward=keep)
    return found


def _apart(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Return how far gradients are from others, as a share of the norm of the first; infinite where some lack."""
    if len(one) != len(other):
        return float("inf")
    apart = sum(float((a - b).double().square().sum()) for a, b in zip(one, other, strict=True))
    norm = sum(float(a.double().square().sum()) for a in one)
    return math.sqrt(apart / norm if norm else apart)


def _checked(graphs: int, difference: float) -> None:
    """Refuse what was not compiled at all, and gradients that are more than rounding away.

    Raises:
        RunError: one of these is so.
    """
    if not graphs:
        raise RunError(Problem("compile", "PyTorch's compiler took nothing of this step"))
    if not difference <= TOLERANCE:
        what = f"the compiled step's gradients are off by {difference:.1e} of their norm"
        raise RunError(Problem("compile", what, f"at most {TOLERANCE:g}", fix="use a plan"))


def _failed(error: Exception) -> Problem:
    said = told(error)
    return Problem("compile", f"PyTorch could not compile this step: {said}", fix="use a plan")


def told(error: Exception) -> str:
    """Return what a compiler's error says, in one line."""
    inner = getattr(error, "inner_exception", None) or error  # what the backend raised
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return (lines or [type(inner).__name__])[0][:200].rstrip(".")
