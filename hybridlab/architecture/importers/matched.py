"""Where the weights of a design come from that is a published model, its nodes named and grouped as one likes."""

from __future__ import annotations

from hybridlab.architecture.importers.huggingface import Imported
from hybridlab.architecture.importers.normal_form import (
    difference,
    normal_form,
    paired,
    places,
    unlike_sharing,
)
from hybridlab.architecture.importers.weights import Take, Weights, wanted_weights
from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, SpecError


def sources(model: GraphModel, found: Imported) -> Weights:
    """Return by the path of each node of a model where its weights come from.

    Args:
        model: computes what the published one does, whatever its nodes are called.
        found: the published model, as it was read from its config.

    Raises:
        SpecError: the model computes something else; the first place where.
    """
    if model.architecture.fingerprint == found.architecture.fingerprint:
        return found.weights
    ours, theirs = normal_form(model.architecture), normal_form(found.architecture)
    pairs = paired(ours, theirs)
    name = found.architecture.name
    if pairs is None:
        problem: Problem | None = difference(ours, theirs, name)[1]
    else:
        problem = unlike_sharing(ours, theirs, pairs, name)
    if problem is not None or pairs is None:
        said = f"the weights of {name} are those of another architecture"
        fix = "import its config.json, or change the design"
        first = (problem,) if problem is not None else ()
        raise SpecError([*first, Problem(model.architecture.name, said, fix=fix)])
    names = [(path, weight) for path, weight, _ in wanted_weights(model)]
    made: dict[str, dict[str, Take]] = {}
    for (path, weight), (there, called) in places(ours, theirs, pairs, names).items():
        if (taken := found.weights.get(there, {}).get(called)) is not None:
            made.setdefault(path, {})[weight] = taken
    return made
