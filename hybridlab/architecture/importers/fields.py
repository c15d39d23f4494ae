"""Reads a config field by field, remembers what was read, and tells all that is wrong at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from hybridlab.errors import Problem, SpecError
from hybridlab.validation import join_path, shown

_T = TypeVar("_T")

_HARMLESS = """
_name_or_path _attn_implementation _attn_implementation_autoset _commit_hash architectures attn_implementation
auto_map bos_token_id cache_implementation chunk_size_feed_forward classifier_dropout dtype eos_token_id
experts_implementation finetuning_task id2label initializer_range keys_to_ignore_at_inference label2id
max_position_embeddings model_type name_or_path num_logits_to_keep output_attentions output_hidden_states
output_router_logits pad_token_id prefix pretraining_tp problem_type pruned_heads return_dict
return_dict_in_generate router_aux_loss_coef sep_token_id task_specific_params tf_legacy_loss
tie_encoder_decoder tokenizer_class torch_dtype torchscript transformers_version transformers.js_config
unsloth_fixed unsloth_version use_bfloat16 use_cache use_return_dict z_loss_coefficient bad_words_ids
begin_suppress_tokens decoder_start_token_id diversity_penalty do_sample early_stopping
encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id
length_penalty max_length min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences
output_scores remove_invalid_values repetition_penalty suppress_tokens temperature top_k top_p typical_p
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Fields that say nothing about what the model computes from token ids."""

_REFUSED = {
    "is_encoder_decoder": "models with an encoder and a decoder are not read",
    "add_cross_attention": "cross-attention is not read",
}


class Fields:
    """The fields of one config, or of a mapping inside it.

    Every reader marks its field as used. What is wrong with a value becomes a problem, and the family's default is
    returned in its place, so that one pass finds everything; ``finish`` raises them.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        defaults: Mapping[str, Any],
        *,
        path: str = "",
        ignored: Collection[str] = (),
        harmless: Collection[str] = (),
    ) -> None:
        """Read ``content``, with ``defaults`` for what it leaves out; ``ignored`` fields count as left out."""
        self._content = {key: value for key, value in content.items() if key not in ignored}
        self._defaults = defaults
        self._path = path
        self._harmless = HARMLESS | set(harmless)
        self._used: set[str] = set()
        self._sections: list[Fields] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = [
            f"{name} was left out, as asked" for name in sorted(set(ignored) & set(content))
        ]

    def given(self, name: str) -> bool:
        """Say whether the config itself has a field, and not null."""
        return self._content.get(name) is not None

    def raw(self, name: str) -> Any:
        """Return a field as it stands, or the family's default; None where there is neither."""
        self._used.add(name)
        return self._content.get(name, self._defaults.get(name))

    def whole(self, name: str, *, least: int = 1) -> int:
        """Return a whole number."""
        return int(self._checked(name, _is_whole, f"a whole number, at least {least}", least))

    def maybe_whole(self, name: str, *, least: int = 1) -> int | None:
        """Return a whole number, or None where the field is null or has no default."""
        return None if self.raw(name) is None else self.whole(name, least=least)

    def number(self, name: str, *, least: float = -math.inf) -> float:
        """Return a number."""
        words = "a number" + ("" if least == -math.inf else f", at least {least:g}")
        return float(self._checked(name, _is_number, words, least))

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return bool(self._checked(name, lambda value: isinstance(value, bool), "true or false"))

    def text(self, name: str) -> str:
        """Return text."""
        return str(self._checked(name, lambda value: isinstance(value, str), "text"))

    def listed(self, name: str) -> list[Any]:
        """Return a list; null is an empty one."""
        value = self.raw(name)
        if value is None:
            return []
        if isinstance(value, (list, tuple)):
            return list(value)
        self.refuse(name, "has the wrong type", "a list")
        return list(self._defaults.get(name) or [])

    def choice(self, name: str, ours: Mapping[str, _T]) -> _T:
        """Return what a published word stands for here."""
        word = self.raw(name)
        if isinstance(word, str) and word in ours:
            return ours[word]
        self.refuse(name, "nothing here computes this", " or ".join(map(repr, ours)))
        return next(iter(ours.values()))

    def only(self, name: str, *allowed: Any, because: str = "") -> None:
        """Refuse every value of a field but these."""
        value = self.raw(name)
        if not any(
            value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed
        ):
            self.refuse(
                name,
                because or "nothing here computes this",
                " or ".join(shown(one) for one in allowed),
            )

    def dropout(self, *names: str) -> None:
        """Note a dropout above zero, which changes training and not what the model computes afterwards."""
        for name in names:
            if self.raw(name) is not None and self.number(name, least=0) > 0:
                self.notes.append(f"{name} {self.raw(name):g} is left out: nodes have no dropout")

    def section(self, name: str) -> Fields:
        """Return the fields of a mapping inside the config; empty where it is null or left out."""
        value = self.raw(name)
        if value is not None and not isinstance(value, Mapping):
            self.refuse(name, "has the wrong type", "a mapping")
            value = None
        inner = Fields(value or {}, {}, path=join_path(self._path, name))
        self._sections.append(inner)
        return inner

    def refuse(self, name: str, message: str, expected: str = "", fix: str = "") -> None:
        """Add a problem about a field."""
        value = self._content.get(name, self._defaults.get(name))
        self.problems.append(
            Problem(join_path(self._path, name), message, expected, shown(value), fix)
        )

    def passed(self, *names: str) -> None:
        """Count fields as read; all of them where none is named."""
        self._used |= set(names or self._content)

    def finish(self) -> None:
        """Tell all that was wrong, fields that nobody read included.

        Raises:
            SpecError: something was.
        """
        if problems := list(self._all_problems()):
            raise SpecError(problems)

    def all_notes(self) -> list[str]:
        """Return what is worth telling about fields that were left out."""
        return self.notes + [note for section in self._sections for note in section.all_notes()]

    def unread_defaults(self) -> set[str]:
        """Return fields of the family that were neither read nor are harmless: a gap in its reader."""
        return set(self._defaults) - self._used - self._harmless

    def _all_problems(self) -> list[Problem]:
        for name, message in _REFUSED.items():
            if self._content.get(name) and name not in self._used:
                self.refuse(name, message, "false")
        given = {name for name, value in self._content.items() if value is not None}
        unknown = given - self._used - set(self._defaults) - self._harmless - set(_REFUSED)
        found = list(dict.fromkeys(self.problems))
        for name in sorted(unknown):
            close = difflib.get_close_matches(name, sorted({*self._used, *self._defaults}), n=1)
            fix = "remove it if the model computes the same without it, or ignore it by name"
            found.append(
                Problem(
                    join_path(self._path, name),
                    "unknown field",
                    "a field of this family",
                    shown(self._content[name]),
                    f"did you mean {close[0]!r}? Else {fix}" if close else fix,
                )
            )
        return found + [
            problem for section in self._sections for problem in section._all_problems()
        ]

    def _checked(self, name: str, right: Any, words: str, least: float | None = None) -> Any:
        value = self.raw(name)
        if right(value) and (least is None or value >= least):
            return value
        missing = value is None and name not in self._content
        self.refuse(name, "is missing" if missing else "has the wrong value", words)
        default = self._defaults.get(name)
        return default if right(default) else (1 if least is None else max(least, 1))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
