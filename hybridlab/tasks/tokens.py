"""Tasks whose samples are sequences of tokens, with an answer for each position out of the same vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from hybridlab.components.types import TensorType
from hybridlab.tasks.base import Batch, Measure, Task, logits_type, tokens_type

BYTES = 256
_EVALUATION_BATCH = 32


class TokenTask(Task):
    """A task over ``params.vocab`` tokens, ``params.length`` a sequence."""

    @property
    def length(self) -> int:
        """Tokens that a model reads."""
        length: int = self.params.length
        return length

    @property
    def vocab(self) -> int:
        """How many tokens there are."""
        vocab: int = self.params.vocab
        return vocab

    def input_node(self) -> dict[str, Any]:
        """Return an embedding of the tokens."""
        return {"use": "token_embedding", "vocab": self.vocab}

    def head_node(self) -> dict[str, Any]:
        """Return logits over the tokens at every position."""
        return {"use": "lm_head", "vocab": self.vocab}

    def input_type(self) -> TensorType:
        """Return tokens (B, L)."""
        return tokens_type()

    def output_type(self) -> TensorType:
        """Return logits (B, L, vocab)."""
        return logits_type(self.vocab, per_position=True)


class ByteTask(TokenTask):
    """A task about windows of a text's bytes: each byte is foretold from those before it."""

    measure: ClassVar[Measure] = "bits_per_byte"
    run_together = True
    needs_causal = True
    evaluated_bytes: ClassVar[dict[str, int]]
    """Bytes of each split that are scored, at most."""

    @property
    def vocab(self) -> int:
        """The 256 byte values."""
        return BYTES

    def part(self, split: str) -> NDArray[np.uint8]:
        """Return the bytes of a split."""
        raise NotImplementedError

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Yield fixed windows without overlap, spread over the split."""
        data, starts = self.part(split), self.evaluation_starts(split)
        for first in range(0, len(starts), _EVALUATION_BATCH):
            yield self.windows(data, starts[first : first + _EVALUATION_BATCH])

    def evaluation_starts(self, split: str) -> NDArray[np.int64]:
        """Return where the windows begin that are scored; none where a text is shorter than one."""
        available = (len(self.part(split)) - 1) // self.length
        if available == 0:
            return np.zeros(0, dtype=np.int64)
        count = max(1, min(available, self.evaluated_bytes[split] // self.length))
        return (np.arange(count) * available // count) * self.length

    def windows(self, data: NDArray[np.uint8], starts: NDArray[np.int64]) -> Batch:
        """Return the windows that begin at places (B,): bytes, and the byte after each."""
        window = data[starts[:, None] + np.arange(self.length + 1)].astype(np.int64)
        rows = torch.from_numpy(window)
        return Batch(rows[:, :-1], rows[:, 1:])

    def spelled(self, token: int) -> str:
        """Return a byte as it is written."""
        return chr(token) if 32 <= token < 127 else f"\\x{token:02x}"
