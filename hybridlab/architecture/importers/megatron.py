"""Reads a hybrid layer pattern as Megatron-LM writes it: one letter a layer, such as ``M-M*-M-E``.

https://github.com/NVIDIA/Megatron-LM, ``hybrid_layer_pattern``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridlab.architecture.importers.draft import Draft, Part
from hybridlab.architecture.infer import check
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import palette
from hybridlab.errors import Problem, SpecError

LETTERS: Mapping[str, tuple[str, str]] = {
    "M": ("mamba2", "Mamba-2"),
    "G": ("gated_delta_net", "gated DeltaNet"),
    "*": ("attention", "attention"),
    "D": ("sparse_attention", "sparse attention"),
    "+": ("latent_attention", "multi-head latent attention"),
    "-": ("mlp", "feed-forward layer"),
    "E": ("moe", "mixture of experts"),
}
"""Each letter's component and what it stands for."""
CUT, EXTRA = "|", "/"
SOURCE = "https://github.com/NVIDIA/Megatron-LM"
_MOST_LAYERS = 1_000


def read(
    pattern: str,
    *,
    width: int = 64,
    sizes: Mapping[str, Any] | None = None,
    vocab: int | None = None,
    name: str = "megatron-hybrid",
) -> tuple[Architecture, list[str]]:
    """Read a pattern; return the architecture and notes on what was left out.

    Args:
        pattern: a letter a layer; ``|`` cuts it into pipeline stages, ``/`` sets off extra heads.
        width: features of a position.
        sizes: parameters such as ``heads``, ``state`` or ``experts``, for every component that has them.
        vocab: size of the vocabulary; None leaves input and head to the task.
        name: what to call the architecture.

    Raises:
        SpecError: the pattern has unknown letters or none, or the sizes do not fit.
    """
    main, *extra = pattern.strip().split(EXTRA)
    notes = []
    if CUT in main:
        notes.append("'|' cuts a pipeline into stages and is left out: it computes nothing")
    if extra:
        notes.append(f"the extra heads after '/' are left out: {EXTRA.join(extra)!r}")
    letters = [(place, letter) for place, letter in enumerate(main) if letter not in (CUT, " ")]
    _refuse_unknown(pattern, letters)
    draft = Draft(width)
    draft.layers = [[_part(LETTERS[letter][0], sizes or {})] for _, letter in letters]
    if vocab is not None:
        draft.before = [Part("token_embedding", {"vocab": vocab}, id="tokens")]
        draft.after = [Part("lm_head", {"vocab": vocab})]
    description = f"Read from the layer pattern {pattern.strip()[:200]}"
    architecture, _ = draft.finish(name, SOURCE, description)
    if problems := [p for p in check(architecture) if p.severity == "error"]:
        raise SpecError(problems)
    return architecture, notes


def _refuse_unknown(pattern: str, letters: list[tuple[int, str]]) -> None:
    known = ", ".join(f"{letter} {words}" for letter, (_, words) in LETTERS.items())
    wrong = [(place, letter) for place, letter in letters if letter not in LETTERS]
    if wrong:
        places = ", ".join(f"{letter!r} at position {place + 1}" for place, letter in wrong[:10])
        more = f", and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise SpecError(Problem("pattern", f"unknown letter {places}{more}", known))
    if not letters:
        raise SpecError(Problem("pattern", "has no layers", known, repr(pattern[:60])))
    if len(letters) > _MOST_LAYERS:
        raise SpecError(
            Problem(
                "pattern", "has too many layers", f"at most {_MOST_LAYERS:,}", f"{len(letters):,}"
            )
        )


def _part(use: str, sizes: Mapping[str, Any]) -> Part:
    known = palette()[use].cls.Params.model_fields
    return Part(use, {key: value for key, value in sizes.items() if key in known})
