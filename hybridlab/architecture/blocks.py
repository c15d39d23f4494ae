"""Groups kept under a name to be used again: each a small architecture file in the home folder. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybridlab.architecture import edit, library
from hybridlab.architecture.document import implied_ids
from hybridlab.architecture.library import Entry
from hybridlab.architecture.spec import INPUT
from hybridlab.errors import Problem, SpecError
from hybridlab.runs.home import home


def blocks() -> list[Entry]:
    """Return the saved blocks by name; the text of each is an architecture of one node."""
    return library.entries(_folder())


def files() -> list[Path]:
    """Return the saved blocks' files by name, unread."""
    return sorted(_folder().glob("*.yaml"))


def block_text(text: str, path: str, name: str) -> str:
    """Return a node of an architecture's text as a block: what it holds, and nothing of what was around it.

    Raises:
        SpecError: there is no such node, or something in it reads a node from outside.
    """
    node = edit.read_field(text, path)
    node.pop("inputs", None)
    node.pop("share", None)  # there is nobody to share with
    outside = sorted(set(_reads_outside(node.get("nodes") or [], set())))
    if outside:
        raise SpecError(
            Problem(
                path,
                f"nodes in this group read {', '.join(map(repr, outside[:5]))} from outside of it",
                "a block that reads only what enters it",
                fix=f"let them read {INPUT!r}, or put those nodes into the group first",
            )
        )
    return edit.add(edit.set_field(edit.EMPTY, "name", name), node)


def save_block(text: str, path: str, name: str, *, overwrite: bool = False) -> Entry:
    """Keep a node of an architecture's text as a block; the file is replaced whole or not at all.

    Raises:
        SpecError: it cannot stand alone, the name is taken or none, or the folder cannot be written.
    """
    return library.save(_folder(), name, block_text(text, path, name.strip()), overwrite=overwrite)


def delete_block(name: str) -> None:
    """Remove a saved block; nothing happens where there is none."""
    for entry in blocks():
        if entry.name == name:
            entry.path.unlink(missing_ok=True)


def _folder() -> Path:
    return home() / "blocks"


def _reads_outside(nodes: list[Any], around: set[str]) -> Iterator[str]:
    known = around | set(implied_ids(nodes)) | {INPUT}
    for node in nodes:
        wanted = node.get("inputs") or []
        for name in [wanted] if isinstance(wanted, str) else wanted:
            if name not in known:
                yield str(name)
        lender = str(node.get("share") or INPUT).partition(".")[0]
        if lender not in known:
            yield lender
        yield from _reads_outside(node.get("nodes") or [], known)
