"""What a teacher says of samples that come again, kept on disk beside the run and in memory.

A sample is known by the bytes of its inputs. The teacher is asked for blocks of neighbours in the data set's own order,
never for the batch at hand: so what is kept of a sample has the same bits whenever and however often it is computed,
and a training that was killed and resumed reads what an unbroken one would have read. A block is a file, written whole
or not at all; one that is missing or damaged is computed anew.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hybridlab.errors import RunError
from hybridlab.training.weights import read_tensors, write_weights

FOLDER = ".teacher"
"""In the run's folder; its dot keeps it out of archives."""
_DIGEST = "sha256"
_log = logging.getLogger(__name__)

Ask = Callable[[Tensor, frozenset[str]], dict[str, Tensor]]
"""From inputs on the CPU (b, ...) and names to what the teacher says: tensors (b, ...) on the CPU, by name."""


class TeacherCache:
    """Answers of a network that does not change to a fixed set of samples: at most so many bytes, or none at all."""

    def __init__(
        self,
        folder: Path,
        key: str,
        inputs: Tensor,
        block: int,
        most_bytes: int,
        ask: Ask,
        *,
        home: str = FOLDER,
        what: str = "the teacher's answers",
        setting: str = "cache_mib",
    ) -> None:
        """Keep what ``ask`` says of ``inputs`` (n, ...), in files of ``block`` samples.

        ``key`` changes with whatever changes the answers: the teacher's weights, the task, the number format.
        ``home`` is the folder in ``folder``; ``what`` is kept and the ``setting`` that bounds it are named to people.
        """
        about = f"{key} {block} {_digest({'inputs': inputs})}"
        self._folder = folder / home
        self._what, self._setting = what, setting
        self._key = hashlib.sha256(about.encode()).hexdigest()[:16]
        self._inputs, self._block, self._most, self._ask = inputs, block, most_bytes, ask
        self._place = {_bytes(row): place for place, row in enumerate(inputs)}
        self._names: frozenset[str] = frozenset()
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._fits = True
        self._writes = True

    def places(self, inputs: Tensor) -> list[int] | None:
        """Return where a batch's samples stand in the data; None where one of them is not in it."""
        found = [self._place.get(_bytes(row)) for row in inputs]
        return None if None in found else [place for place in found if place is not None]

    def answers(self, places: Collection[int], names: frozenset[str]) -> dict[str, Tensor] | None:
        """Return what the teacher says of samples, (b, ...) by name on the CPU; None where there is no room for all."""
        if names != self._names:
            self._turn_to(names)
        if not self._fits:
            return None
        blocks = {place // self._block: self._of_block(place // self._block) for place in places}
        return {
            name: torch.stack(
                [blocks[place // self._block][name][place % self._block] for place in places]
            )
            for name in names
        }

    def fill(self, names: frozenset[str], before_each: Callable[[], object] = lambda: None) -> bool:
        """Have the answers to all samples at hand; say whether there is room for them."""
        before_each()
        if names != self._names:
            self._turn_to(names)
        for block in range(-(-len(self._inputs) // self._block) if self._fits else 0):
            before_each()
            self._of_block(block)
        return self._fits

    def _turn_to(self, names: frozenset[str]) -> None:
        """Let go of other names' answers, here and on disk, and see whether there is room for these."""
        self._names, self._kept = names, {}
        mine = self._home().name
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.name != mine:
                shutil.rmtree(path, ignore_errors=True)
        self._fits = True
        first = self._of_block(0)
        each = sum(tensor[0].nbytes for tensor in first.values())
        if each * len(self._inputs) > self._most:
            self._fits, self._kept = False, {}
            shutil.rmtree(self._home(), ignore_errors=True)
            _log.warning(
                "%s take more than %s; they are computed at each step", self._what, self._setting
            )

    def _home(self) -> Path:
        names = hashlib.sha256(" ".join(sorted(self._names)).encode()).hexdigest()[:16]
        return self._folder / f"{self._key}-{names}"

    def _of_block(self, block: int) -> dict[str, Tensor]:
        if block not in self._kept:
            path = self._home() / f"{block:06d}.safetensors"
            found = self._read(path)
            if found is None:
                rows = self._inputs[block * self._block : (block + 1) * self._block]
                found = self._ask(rows, self._names)
                self._write(found, path)
            self._kept[block] = found
        return self._kept[block]

    def _read(self, path: Path) -> dict[str, Tensor] | None:
        """Return a block as it was written; None where it is not there, or not whole."""
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as opened:
                digest = (opened.metadata() or {}).get(_DIGEST)
            found = read_tensors(path)
        except (OSError, SafetensorError, RunError):
            return None
        return found if set(found) == self._names and _digest(found) == digest else None

    def _write(self, found: dict[str, Tensor], path: Path) -> None:
        """Keep a block on disk; a disk that takes no more costs time, not the training."""
        if not self._writes:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_weights(found, path, {_DIGEST: _digest(found)})
        except (OSError, RunError) as error:
            self._writes = False
            _log.warning("%s are kept in memory alone: %s", self._what, error)


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
