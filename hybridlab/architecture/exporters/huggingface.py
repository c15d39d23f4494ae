"""Writes a model as the folder that ``transformers`` opens: ``config.json`` and ``model.safetensors``.

An architecture is one of a family where the config that the family writes for it, read again, gives the same model.
So nothing is written that the importer would not read back, and what the family lacks is told by its path.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import importlib.util
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hybridlab.architecture.answering import answering
from hybridlab.architecture.importers.huggingface import Imported, families, read, writings
from hybridlab.architecture.importers.normal_form import (
    NormalForm,
    difference,
    normal_form,
    paired,
    places,
    unlike_sharing,
)
from hybridlab.architecture.importers.weights import published, wanted_weights
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import nearest
from hybridlab.components.types import TensorKind
from hybridlab.errors import Problem, SpecError

_READ_FROM = re.compile(r"^Read from an? (\w+) config\.json")
_PLAINEST = ("llama", "mistral", "mixtral")
"""What is tried first: others can be set so that they are one of these."""
_POSITIONS = 17
_TOLERANCE = 1e-3
"""Largest difference of logits, as a share of the largest logit, that rounding may make."""
NOT_CHECKED = "not checked: transformers is not installed"


@dataclass(frozen=True)
class Described:
    """An architecture as one of a family: the content of its config, and what reading that again gives."""

    family: str
    config: Mapping[str, Any]
    again: Imported
    ours: NormalForm
    theirs: NormalForm
    pairs: Mapping[int, int]


@dataclass(frozen=True)
class Written:
    """What was written, and what ``transformers`` made of it."""

    folder: Path
    family: str
    params: int
    checked: bool
    largest_difference: float | None
    """Of the logits there from the logits here, over a batch of random tokens; None where it was not checked."""


def describe(
    architecture: Architecture, *, family: str | None = None, like: Mapping[str, Any] | None = None
) -> Described:
    """Return the config of an architecture that has the shape of a family.

    Args:
        architecture: with its input and its head.
        family: the ``model_type``; None for the one it was read from, else the first that fits.
        like: the content of a ``config.json`` whose other fields are kept: token ids, lengths, multipliers.

    Raises:
        SpecError: it is none of the family (or of any): where, and what the family has there.
    """
    if like is not None and not isinstance(like, Mapping):
        raise SpecError(Problem("like", "this is not a config", "a mapping of fields"))
    ours = normal_form(architecture)
    wanted = family or (str(like.get("model_type")) if like else None)
    known = writings()
    if wanted is not None and wanted not in known:
        raise SpecError(
            Problem(
                "family",
                "no exporter writes this family",
                ", ".join(known),
                repr(wanted),
                nearest(wanted, list(known)),
            )
        )
    closest: tuple[int, str, tuple[Problem, ...]] | None = None
    for name in [wanted] if wanted is not None else _likeliest(architecture, list(known)):
        for config in _configs(name, ours, like):
            try:
                again = read(config)
                theirs = normal_form(again.architecture)
            except (SpecError, ArithmeticError, ValueError) as error:
                told = error.problems if isinstance(error, SpecError) else ()
                found = 0, name, tuple(told)
            else:
                pairs = paired(ours, theirs)
                unlike = unlike_sharing(ours, theirs, pairs or {}, name)
                if pairs is not None and unlike is None:
                    return Described(name, config, again, ours, theirs, pairs)
                shared, problem = len(ours.lines), unlike
                if problem is None:
                    shared, problem = difference(ours, theirs, name)
                found = shared, name, (problem,)
            if closest is None or found[0] > closest[0]:
                closest = found
    assert closest is not None
    _, name, problems = closest
    what = f"this is no {name} model" if wanted else f"no family fits; {name} comes nearest"
    fix = "change it, or export it as pytorch or onnx, which write any pattern"
    raise SpecError([*problems, Problem(architecture.name, what, fix=fix)])


def write_folder(
    model: GraphModel,
    folder: Path,
    *,
    family: str | None = None,
    like: Mapping[str, Any] | None = None,
) -> Written:
    """Write a model's config and weights, which ``transformers.AutoModelForCausalLM.from_pretrained`` opens.

    Where ``transformers`` is installed it opens the folder and must give the same logits; else nothing is checked.
    The folder appears whole or not at all.

    Args:
        model: reads tokens, and is of a family that can be written.
        folder: where; it must not be there, or be empty.
        family: as for ``describe``.
        like: as for ``describe``.

    Raises:
        SpecError: the model is of no such family, a weight has no place in its files, the folder cannot be written, or
            what ``transformers`` computes from it is something else.
    """
    if model.inference.input.kind is not TensorKind.TOKENS:
        raise SpecError(
            Problem(
                model.architecture.name,
                "published models read tokens",
                "an architecture with token_embedding and lm_head",
                f"one that reads {model.inference.input}",
                "give it both, or name a task that does, such as python_bytes",
            )
        )
    found = describe(model.architecture, family=family, like=like)
    names = [(path, name) for path, name, _ in wanted_weights(model)]
    where = places(found.ours, found.theirs, found.pairs, names)
    tensors = published(model, found.again.weights, where)
    params = sum(parameter.numel() for parameter in model.parameters())
    with _whole(folder) as draft:
        text = json.dumps({**found.config, "dtype": "float32"}, indent=2, sort_keys=True)
        (draft / "config.json").write_text(text + "\n", encoding="utf-8")
        save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
        apart = _apart(draft, model, found.again.unused)
    return Written(folder, found.family, params, apart is not None, apart)


def _likeliest(architecture: Architecture, known: list[str]) -> list[str]:
    """Return the families in the order in which they are tried: first the one that it was read from."""
    said = _READ_FROM.match(architecture.description)
    first = [said[1]] if said is not None else []
    return [name for name in dict.fromkeys([*first, *_PLAINEST, *known]) if name in known]


def _configs(
    name: str, ours: NormalForm, like: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """Yield the configs that may be right: the given one as it stands, and the one that the family writes."""
    writing, read_as = writings()[name], families()[name]
    base: dict[str, Any] = {"model_type": name, "architectures": [writing.model]}
    base |= dict.fromkeys(_TOKEN_IDS)  # those of a family's own would be of another vocabulary
    fields = writing.fields(ours)
    if like is not None and like.get("model_type", name) == name:
        yield {**base, **like}
        harmless = read_as.harmless | {"max_position_embeddings", *_TOKEN_IDS}
        kept = {key: like[key] for key in like if key in harmless or key in read_as.defaults}
        fields |= {key: kept[key] for key in writing.folded if key in kept}
        yield {**base, **kept, **fields}
    yield {**base, **fields}


_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write into, which takes its name when all went well and vanishes when not."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SpecError(
                Problem(str(folder), "is there already", "a new folder, or an empty one")
            )
        draft.mkdir(parents=True)
        yield draft
        if folder.exists():
            folder.rmdir()
        draft.replace(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(Problem(str(folder), f"cannot be written: {reason}")) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _apart(folder: Path, model: GraphModel, unused: tuple[str, ...]) -> float | None:
    """Return how far the logits of ``transformers`` are from ours; None where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    theirs = _opened(folder, unused)
    vocab = int(theirs.config.vocab_size)
    tokens = torch.randint(vocab, (2, _POSITIONS), generator=torch.Generator().manual_seed(0))
    device = next(model.parameters()).device
    with answering(model), torch.no_grad(), _quiet():
        ours = model(tokens.to(device)).float().cpu()
        apart = float((theirs(tokens, use_cache=False).logits - ours).abs().max())
    most = _TOLERANCE * (1 + float(ours.abs().max()))
    if not apart <= most:
        raise SpecError(
            Problem(
                str(folder),
                "transformers computes something else from what was to be written",
                f"logits within {most:.2g}",
                f"a difference of {apart:.3g}",
            )
        )
    return apart


def _opened(folder: Path, unused: tuple[str, ...]) -> Any:
    """Return what ``transformers`` makes of a folder, with every weight from there but the ``unused``."""
    transformers = importlib.import_module("transformers")
    logging = transformers.utils.logging
    told, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with _quiet():
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
            )
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise SpecError(Problem(str(folder), f"transformers does not open it: {said}")) from None
    finally:
        logging.set_verbosity(told)
        if bar:
            logging.enable_progress_bar()
    wrong = [
        str(name)
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for name in report.get(key) or ()
        if not any(fnmatch.fnmatch(str(name), pattern) for pattern in unused)
    ]
    if wrong:
        raise SpecError(
            Problem(
                str(folder),
                f"transformers does not take all weights: {', '.join(sorted(wrong)[:8])}",
            )
        )
    return model.eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
