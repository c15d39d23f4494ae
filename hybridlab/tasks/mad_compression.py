"""Compression of Mechanistic Architecture Design: put a whole sequence into the vector of its last token."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridlab.components.base import field
from hybridlab.tasks.base import task
from hybridlab.tasks.mad_data import SOURCE, Integers, Mad, MadParams, Uniforms, whole


class CompressionParams(MadParams):
    """What can be set about compression."""

    length: int = field(32, ge=2, le=4_096, unit="tokens", help="Tokens of a sequence.")


@task(
    "mad_compression",
    title="MAD: compression",
    summary="Put random tokens into the vector of one last token, from which all are told again.",
    source=SOURCE,
    tests="How much of a sequence a model can gather in one vector.",
)
class MadCompression(Mad):
    """Random tokens, then the token into which they go; a fixed decoder must tell every token from its vector alone.

    The target of each position is the token that stands there, the last one included, as in the paper's code.
    """

    Params = CompressionParams
    needs_own_head = True

    @property
    def symbols(self) -> int:
        """How many tokens a sequence may hold; the one behind them gathers them."""
        return int(self.params.vocab) - 1

    @property
    def _numbers(self) -> int:
        return int(self.params.length) - 1

    def head_node(self) -> dict[str, Any]:
        """Return the decoder, which sees the last position only."""
        return {"use": "sequence_decoder", "vocab": self.params.vocab}

    def _sequences(self, uniforms: Uniforms, training: bool) -> tuple[Integers, Integers]:
        tokens = np.full((len(uniforms), self.length), self.symbols, dtype=np.int64)
        tokens[:, :-1] = whole(uniforms, self.symbols)
        return tokens, tokens.copy()

    def baselines(self) -> dict[str, float]:
        """Return the accuracy of guessing any token where tokens are random, and knowing the last one."""
        return {"chance": (self._numbers / self.symbols + 1) / self.length}

    def spelled(self, token: int) -> str:
        """Return a token as people read it."""
        return "■" if token == self.symbols else str(token)
