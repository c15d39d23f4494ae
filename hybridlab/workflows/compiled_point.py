"""Measures one step, compiled or as it is, in a process of its own: ``python -m hybridlab.workflows.compiled_point``.

It is asked, and answers, as ``own_process`` says; ``measure`` says what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.architecture.program import program
from hybridlab.errors import Problem, RunError
from hybridlab.planning.compiled import (
    check_compared,
    measure_compiled,
    measure_plain,
    missing_compiler,
)
from hybridlab.planning.recompute import Recomputing
from hybridlab.profiling.session import device_of
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.tasks.registry import fit
from hybridlab.training.defaults import prepare
from hybridlab.workflows.own_process import answer
from hybridlab.workflows.profile import training_step


def measure(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what is asked for.

    Keys: ``architecture`` (YAML text), ``training`` (settings of the step), ``steps`` to time, ``share`` (PyTorch's
    budget; None: as it is, not compiled), ``spans`` (places that are computed again) and ``by_component`` (what is
    compiled: each component alone, or the model), ``backend`` of the compiler.

    Raises:
        HybridLabError: the settings are wrong, or the step cannot be compiled or measured.
    """
    task, spec = prepare(dict(asked["training"]))
    check_compared(spec)
    completed = fit(loads(str(asked["architecture"])), task)
    model = build(completed, task.input_type(), seed=spec.seed)
    step = training_step(model, task, spec)
    if spans := asked.get("spans"):
        model.running = Recomputing(program(model), [(first, last) for first, last in spans])
    steps, share = int(asked["steps"]), asked["share"]
    try:
        if share is None:
            return {"figures": measure_plain(step, steps=steps).model_dump()}
        backend = str(asked.get("backend", "inductor"))
        if backend == "inductor" and (missing := missing_compiler(device_of(model))):
            raise RunError(Problem("compile", missing, fix="install one, or use a plan"))
        found = measure_compiled(
            step,
            float(share),
            steps=steps,
            by_component=bool(asked.get("by_component")),
            backend=backend,
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        what = f"of {spec.batch} ran out of memory while it was measured"
        raise RunError(Problem("batch", what, fix="measure a smaller batch")) from None
    return {**asdict(found), "figures": found.figures.model_dump()}


def _answered(
    asked: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    return measure(asked)


if __name__ == "__main__":
    answer(_answered)
