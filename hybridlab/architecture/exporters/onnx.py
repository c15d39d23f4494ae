"""Writes a model as an ONNX graph with its weights inside, and holds it against the model in onnxruntime."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybridlab.architecture.answering import answering
from hybridlab.architecture.exporters.graph_forms import form_of, in_graph_form
from hybridlab.architecture.fake_run import concrete_shape, fake_inputs
from hybridlab.architecture.model import GraphModel
from hybridlab.components.base import Component
from hybridlab.components.types import TensorType
from hybridlab.errors import Problem, SpecError

OPSET = 20
"""The version of ONNX's operators that graphs are written in; onnxruntime has it since 1.17."""
NOT_CHECKED = "not checked: onnxruntime is not installed"
INPUT_NAME, OUTPUT_NAME = "x", "y"
_NEEDED = ("onnx", "onnxscript")
_TOLERANCE = 1e-3
"""Largest difference of outputs, as a share of the largest, that rounding may make."""
_ONE_FILE_BYTES = 1_500_000_000
"""Weights above this stand in a file beside the graph: ONNX files hold 2 GB."""
_ELSEWHERE = "export it as pytorch, or put another component in its place"


@dataclass(frozen=True)
class Exported:
    """What was written, and what onnxruntime made of it."""

    file: Path
    params: int
    opset: int
    dynamic: tuple[str, ...]
    """What may change from call to call: batch, and length where every component allows it."""
    by_steps: tuple[str, ...]
    """Paths of the components that run position by position in the graph."""
    fixed: tuple[str, ...]
    """Paths of the components that keep the length fixed."""
    length: int | None
    """The length of a graph whose length is fixed."""
    checked: bool
    largest_difference: float | None
    """Of the outputs there from those here, at two sizes where the sizes are open; None where not checked."""


def write_onnx(model: GraphModel, file: Path, *, batch: int = 2, length: int = 32) -> Exported:
    """Write a model as an ONNX graph, which takes one tensor ``x`` and gives one, ``y``.

    Where onnxruntime is installed it must compute what the model computes; else nothing is checked. The file appears
    whole or not at all.

    Args:
        model: what is written, as it computes after training.
        file: where; weights of more than 1.5 GB stand beside it in ``NAME.data``.
        batch: of the tensors that are traced; at least 2, so that it is not taken for a constant.
        length: positions of the tensors that are traced; also of every call, where a component keeps it fixed.

    Raises:
        SpecError: packages are missing, a component cannot be written (its path and why), onnxruntime computes
            something else, or the file cannot be written.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SpecError(
            Problem(
                "onnx",
                f"ONNX files need a package that is not installed: {', '.join(missing)}",
                fix="pip install 'hybridlab[onnx]'",
            )
        )
    forms = [(path, form_of(slot.body)) for path, slot in model.slots()]
    if refused := [(path, form.why) for path, form in forms if form.way == "none"]:
        raise SpecError(
            [Problem(path, f"ONNX cannot hold it: {why}", fix=_ELSEWHERE) for path, why in refused]
        )
    fixed = tuple(path for path, form in forms if form.way == "fixed")
    given = model.inference.input
    sizes = _open_sizes(given, not fixed)
    batch = max(2, batch)
    with (
        answering(model),
        in_graph_form(model) as by_steps,
        _drafted(file) as draft,
        torch.no_grad(),
    ):
        _export(model, draft, (_sample(model, batch, length),), (sizes,))
        apart = _largest_difference(model, draft, batch, length, sizes)
    params = sum(parameter.numel() for parameter in model.parameters())
    return Exported(
        file,
        params,
        OPSET,
        tuple(dict.fromkeys(sizes.values())),
        tuple(by_steps),
        fixed,
        length if fixed else None,
        apart is not None,
        apart,
    )


def _open_sizes(given: TensorType, length_too: bool) -> dict[int, str]:
    """Return which sizes of an input are open, and what they are called."""
    names = {"B": "batch", "L": "length"} if length_too else {"B": "batch"}
    return {at: names[size] for at, size in enumerate(given.shape) if size in names}


def _sample(model: GraphModel, batch: int, length: int, seed: int = 0) -> Tensor:
    """Return an input of the model: random numbers, or tokens that it knows."""
    given = model.inference.input
    shape = concrete_shape(given, batch, length)
    chance = torch.Generator().manual_seed(seed)
    weight = next(model.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    if given.dtype == "int64":
        vocab = min(
            (
                int(slot.body.params.vocab)
                for _, slot in model.slots()
                if slot.body.info.kind == "input"
            ),
            default=2,
        )
        return torch.randint(vocab, shape, generator=chance).to(device)
    return torch.randn(shape, generator=chance).to(device)


def _export(
    model: GraphModel, draft: Path, inputs: tuple[Tensor, ...], sizes: tuple[dict[int, str], ...]
) -> None:
    """Write the graph; where that fails, name the component."""
    try:
        program = _traced(model, inputs, sizes)
    except SpecError:
        raise
    except Exception as error:  # the exporter's errors have no root of their own
        raise SpecError(_culprit(model, inputs, _reason(error))) from error
    weight_bytes = sum(part.numel() * part.element_size() for part in model.parameters())
    program.save(draft, external_data=weight_bytes > _ONE_FILE_BYTES)


def _traced(module: nn.Module, inputs: tuple[Tensor, ...], sizes: tuple[Any, ...]) -> Any:
    with _quiet():
        return torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            dynamic_shapes=sizes,
            input_names=[INPUT_NAME] if len(inputs) == 1 else None,
            output_names=[OUTPUT_NAME],
            opset_version=OPSET,
            verbose=False,
        )


def _culprit(model: GraphModel, inputs: tuple[Tensor, ...], reason: str) -> Problem:
    """Return which component cannot be written: the first that fails alone."""
    batch = inputs[0].shape[0]
    length = inputs[0].shape[1] if inputs[0].dim() > 1 else 1
    tried: set[tuple[str, str]] = set()
    for path, slot in model.slots():
        key = (slot.use, slot.body.params.model_dump_json())
        if key in tried:
            continue
        tried.add(key)
        own = fake_inputs(slot.body.context, batch, length)
        if failed := _fails(slot.body, tuple(part.to(inputs[0].device) for part in own)):
            return Problem(path, f"ONNX cannot hold {slot.use}: {failed}", fix=_ELSEWHERE)
    return Problem(model.architecture.name, f"ONNX cannot hold it: {reason}", fix=_ELSEWHERE)


def _fails(component: Component, inputs: tuple[Tensor, ...]) -> str:
    types = component.context.inputs
    try:
        sizes = tuple(_open_sizes(given, True) for given in types)
        many = len(types) > 1 or "forward" in component.__dict__  # taken as a tuple
        _traced(component, inputs, (sizes,) if many else sizes)
    except Exception as error:  # as above
        return _reason(error)
    return ""


def _reason(error: BaseException) -> str:
    """Return the first line of what was wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:240]


def _largest_difference(
    model: GraphModel, file: Path, batch: int, length: int, sizes: dict[int, str]
) -> float | None:
    """Return how far onnxruntime's outputs are from the model's; None where it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    wanted = [(batch, length)]
    if sizes:
        other = 2 * length + 3 if "length" in sizes.values() else length
        wanted.append((batch + 1, other))
    apart, largest = 0.0, 0.0
    for seed, (some, positions) in enumerate(wanted):
        x = _sample(model, some, positions, seed)
        ours = _as_trained(model, x)
        (theirs,) = session.run(None, {INPUT_NAME: x.cpu().numpy()})
        if tuple(theirs.shape) != tuple(ours.shape):
            raise SpecError(
                Problem(
                    str(file.name),
                    "onnxruntime gives another shape",
                    str(tuple(ours.shape)),
                    str(tuple(theirs.shape)),
                )
            )
        apart = max(apart, float((torch.from_numpy(theirs) - ours).abs().max()))
        largest = max(largest, float(ours.abs().max()))
    if not apart <= _TOLERANCE * (1 + largest):
        raise SpecError(
            Problem(
                str(file.name),
                "onnxruntime computes something else from what was to be written",
                f"outputs within {_TOLERANCE * (1 + largest):.2g}",
                f"a difference of {apart:.3g}",
                _ELSEWHERE,
            )
        )
    return apart


def _as_trained(model: GraphModel, x: Tensor) -> Tensor:
    """Return the model's own output, all components in the form in which they train."""
    forms = [(slot.body, slot.body.__dict__.pop("forward", None)) for _, slot in model.slots()]
    try:
        return model(x).float().cpu()  # type: ignore[no-any-return]
    finally:
        for body, form in forms:
            if form is not None:
                body.__dict__["forward"] = form


@contextlib.contextmanager
def _drafted(file: Path) -> Iterator[Path]:
    """Give a file to write, which takes its place when all went well, with what stands beside it."""
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
            yield Path(folder) / file.name
            for written in sorted(Path(folder).iterdir(), reverse=True):
                written.replace(file.parent / written.name)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(Problem(str(file), f"cannot be written: {reason}")) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says by itself away from whoever asked."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
