"""From an architecture, a weights file or a run to the model that is to be written in another form."""

from __future__ import annotations

from pathlib import Path

from hybridlab.architecture.document import loads
from hybridlab.architecture.importers.huggingface import Imported, read_file
from hybridlab.architecture.importers.matched import sources
from hybridlab.architecture.importers.weights import load_weights as load_published
from hybridlab.architecture.model import GraphModel, build
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import Problem, RunError, SpecError
from hybridlab.runs.home import run_folder
from hybridlab.runs.store import open_store
from hybridlab.tasks.registry import fit
from hybridlab.tasks.registry import task as make_task
from hybridlab.training.defaults import task_of
from hybridlab.training.grown import trained_text
from hybridlab.training.result import WEIGHTS
from hybridlab.training.spec import make
from hybridlab.training.weights import load_weights, read_tensors, write_weights


def weighted(
    architecture: Architecture | None = None,
    *,
    weights: str | Path | None = None,
    run: str | None = None,
    task: str | None = None,
) -> GraphModel:
    """Return a model with its weights, ready to compute.

    Args:
        architecture: which; None for that of the run.
        weights: a safetensors file as HybridLab writes it, or the folder of a published model with its config.json,
            which is the architecture where none is given; without it and without a run, weights are those that a
            training with seed 0 starts from.
        run: the id of a run, whose final weights, task and (where none is given) architecture are taken.
        task: supplies input and head where there is no run.

    Raises:
        SpecError: there is no architecture, or it has errors; the folder's model is another, or its files cannot be
            read.
        TaskError: the task is unknown, or does not fit.
        RunError: there is no such run, it has no final weights, or weights are those of another architecture.
    """
    chosen = None
    if run is not None:
        if weights is not None:
            raise SpecError(
                Problem("weights", "a run has weights of its own", "a run or a file of weights")
            )
        record = open_store().get(run)
        weights = final_weights(run)
        spec = make(dict(record.spec["training"]))
        chosen = task_of(spec)
        architecture = architecture or loads(trained_text(record.spec))
    at = None if weights is None else Path(weights)
    published = read_file(at / "config.json") if at is not None and at.is_dir() else None
    if published is not None:
        architecture = architecture or published.architecture
    if architecture is None:
        raise SpecError(Problem("file", "there is nothing to write", "an architecture, or a run"))
    given = None
    if task is not None and chosen is None:
        chosen = make_task(task)
    if chosen is not None:
        architecture, given = fit(architecture, chosen), chosen.input_type()
    model = build(architecture, given, seed=0)
    if published is not None and at is not None:
        load_published(model, sources(model, published), at, unused=published.unused)
    elif at is not None:
        load_weights(model, read_tensors(at), at)
    return model.eval()


def write_published(found: Imported, folder: Path, path: Path) -> int:
    """Write the weights in a published model's folder as HybridLab's file; return its bytes.

    Args:
        found: the model, as it was read from its config.
        folder: of its safetensors.
        path: the file to write.

    Raises:
        SpecError: the weights cannot be read, or are not those of the config.
        RunError: the file cannot be written.
    """
    model = build(found.architecture, seed=0)
    load_published(model, found.weights, folder, unused=found.unused)
    write_weights(model.state_dict(), path)
    return path.stat().st_size


def final_weights(run: str) -> Path:
    """Return the file of a run's final weights.

    Raises:
        RunError: there is no such run, or it has none.
    """
    weights = run_folder(run) / WEIGHTS
    if not weights.exists():
        state = open_store().get(run).state
        raise RunError(
            Problem(
                f"run {run}",
                "has no final weights",
                "a run that is done",
                str(state).lower(),
                "resume it, or give a file of weights",
            )
        )
    return weights
