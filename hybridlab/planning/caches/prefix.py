"""States kept over requests: one that begins as an earlier one did is read from where they part.

After vLLM's automatic prefix caching (https://docs.vllm.ai/en/latest/design/prefix_caching.html), for states of every
kind: a recurrence's state cannot be cut at an earlier position, so states are kept at boundaries.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.written import marks
from hybridlab.components.base import State
from hybridlab.components.types import TensorKind
from hybridlab.errors import Problem, SpecError, StepError
from hybridlab.planning.caches.measure import device_of
from hybridlab.planning.caches.record import PrefixReport

EVERY = 32
_TRAINS = Problem("model", "is in training mode", fix="call model.eval() before")


@dataclass(frozen=True)
class _Entry:
    logits: Tensor
    """(1, N), after the last token."""
    states: list[State]


class PrefixCache:
    """States of a model after prefixes of its requests: tokens are the keys, the least recently used go first.

    Kept are states after every ``every`` positions and at the end of each request, as long as all of them take no more
    than ``most_bytes``. A component's step leaves the state that it is given as it is, so states are kept and used
    without copying them; memory that two of them share counts once. When weights change, all is forgotten.
    """

    def __init__(self, model: GraphModel, most_bytes: int, *, every: int = EVERY) -> None:
        """Keep states of ``model``, which is in evaluation mode.

        Raises:
            SpecError: a number is out of range, the model trains (dropout would be kept along) or reads no tokens.
            StepError: a component cannot run one position at a time, or writes into the state that it is given, so
                that there is nothing that could be kept; the problem names the node.
        """
        problems = [
            Problem(name, "is out of range", wanted, str(got))
            for name, got, wanted, wrong in (
                ("most_bytes", most_bytes, "at least 0", most_bytes < 0),
                ("every", every, "at least 1", every < 1),
            )
            if wrong
        ]
        if model.training:
            problems.append(_TRAINS)
        if model.inference.input.kind is not TensorKind.TOKENS:
            got = str(model.inference.input.kind)
            problems.append(Problem("model", "is not read by tokens", "tokens", got))
        if problems:
            raise SpecError(problems)
        self._model, self._most, self._every = model, most_bytes, every
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._lengths: dict[int, int] = {}
        self._storages: dict[int, tuple[int, int]] = {}
        self._requests = self._hits = self._positions = self._saved = self._evicted = 0
        self._held = 0
        _probe(model)
        self._weights = self._marks()

    @torch.no_grad()
    def read(self, prompt_BL: Tensor) -> tuple[Tensor, list[State]]:
        """Return the logits (B, N) after prompts (B, L) and the states with which to go on.

        Each row is a request of its own; rows that begin alike are read once as far as a boundary.

        Raises:
            SpecError: there is nothing to read, or the model trains by now.
        """
        if self._model.training:
            raise SpecError(_TRAINS)
        if prompt_BL.dim() != 2 or 0 in prompt_BL.shape:
            raise SpecError(
                Problem("prompt", "is empty", "tokens (B, L)", str(tuple(prompt_BL.shape)))
            )
        if self._marks() != self._weights:
            self.clear()
            self._weights = self._marks()
        rows = [self._request(row_L) for row_L in prompt_BL]
        logits_BN = torch.cat([logits_1N for logits_1N, _ in rows])
        return logits_BN, _joined([states for _, states in rows])

    def clear(self) -> None:
        """Forget all states; the figures go on."""
        self._entries.clear()
        self._lengths.clear()
        self._storages.clear()
        self._held = 0

    def report(self) -> PrefixReport:
        """Return what has been asked, found and kept."""
        return PrefixReport(
            self._requests,
            self._hits,
            self._positions,
            self._saved,
            len(self._entries),
            self._evicted,
            self._held,
            self._most,
        )

    def _request(self, prompt_L: Tensor) -> tuple[Tensor, list[State]]:
        tokens = prompt_L.detach().to("cpu", torch.int64)
        length = tokens.shape[0]
        begun, found = self._longest(tokens)
        self._requests += 1
        self._positions += length
        self._saved += begun
        self._hits += found is not None
        states = self._model.start(1) if found is None else found.states
        logits_1N = None if found is None else found.logits
        for place in range(begun, length):
            logits_1N, states = self._model.step(states, prompt_L[place : place + 1])
            if (place + 1) % self._every == 0 or place + 1 == length:
                self._keep(tokens[: place + 1], _Entry(logits_1N, states))
        assert logits_1N is not None
        return logits_1N, states

    def _longest(self, tokens_L: Tensor) -> tuple[int, _Entry | None]:
        """Return the longest kept prefix of a prompt, and mark it as used."""
        for length in sorted(self._lengths, reverse=True):
            if length <= tokens_L.shape[0]:
                key = _key(tokens_L[:length])
                if key in self._entries:
                    self._entries.move_to_end(key)
                    return length, self._entries[key]
        return 0, None

    def _keep(self, tokens_L: Tensor, entry: _Entry) -> None:
        key = _key(tokens_L)
        if len(key) + sum(storage.nbytes() for storage in _storages(entry)) > self._most:
            return
        self._entries[key] = entry
        self._lengths[tokens_L.shape[0]] = self._lengths.get(tokens_L.shape[0], 0) + 1
        self._held += len(key)
        for storage in _storages(entry):
            uses, _ = self._storages.get(storage.data_ptr(), (0, 0))
            self._storages[storage.data_ptr()] = uses + 1, storage.nbytes()
            self._held += 0 if uses else storage.nbytes()
        while self._held > self._most and self._entries:
            self._evict()

    def _evict(self) -> None:
        """Let go of the prefix that was used longest ago."""
        key, entry = self._entries.popitem(last=False)
        length = len(key) // 8
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]
        self._held -= len(key)
        for storage in _storages(entry):
            uses, size = self._storages.pop(storage.data_ptr())
            if uses > 1:
                self._storages[storage.data_ptr()] = uses - 1, size
            else:
                self._held -= size
        self._evicted += 1

    def _marks(self) -> tuple[object, ...]:
        """Return what changes when a weight is replaced or written to."""
        return marks((*self._model.parameters(), *self._model.buffers()))


def _key(tokens_L: Tensor) -> bytes:
    return tokens_L.numpy().tobytes()


def _storages(entry: _Entry) -> Iterator[torch.UntypedStorage]:
    """Yield what an entry keeps in memory, each storage once."""
    seen = set()
    for part in (entry.logits, *(part for state in entry.states for part in state)):
        storage = part.untyped_storage()
        if storage.data_ptr() and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            yield storage


def _joined(rows: Sequence[list[State]]) -> list[State]:
    """Put states of single sequences side by side: tensors (1, ...) become (B, ...), counts are the same in all."""
    if len(rows) == 1:
        return rows[0]
    return [
        tuple(
            torch.cat(parts) if parts[0].dim() else parts[0] for parts in zip(*states, strict=True)
        )
        for states in zip(*rows, strict=True)
    ]


@torch.no_grad()
def _probe(model: GraphModel) -> None:
    """Read two positions, and see that states are tensors that nobody writes into.

    Raises:
        StepError: they are not; the problem names the node.
    """
    order = [slot.path for slot in model.root.in_running_order()]
    token_1 = torch.zeros(1, dtype=torch.int64, device=device_of(model))
    _, before = model.step(model.start(1), token_1)
    problems = [
        Problem(path, "keeps something else than tensors, which cannot be kept for later requests")
        for path, state in zip(order, before, strict=True)
        if not all(isinstance(part, Tensor) for part in state)
    ]
    if problems:
        raise StepError(problems)
    copies = [[part.clone() for part in state] for state in before]
    model.step(before, token_1)
    problems = [
        Problem(
            path, "writes into the state that it is given, which then is lost for later requests"
        )
        for path, state, copy in zip(order, before, copies, strict=True)
        if not all(map(torch.equal, state, copy))
    ]
    if problems:
        raise StepError(problems)
