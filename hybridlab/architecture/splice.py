"""Changes a node that stands on one line by writing that line alone: the rest of a file need not be written again."""

from __future__ import annotations

from typing import Any

from ruamel.yaml.comments import CommentedMap

from hybridlab.architecture.document import write_yaml


class Line:
    """The place of a node such as ``- {use: attention, heads: 4}`` in a text, found before the node is changed."""

    def __init__(self, text: str, node: Any) -> None:
        """Look for the node where it was read; ``found`` says whether it stands there as it would be written."""
        self.found = isinstance(node, CommentedMap) and bool(node.fa.flow_style())
        if not self.found:
            return
        self._node = node
        self._lines = text.split("\n")
        self._line, self._column = node.lc.line, node.lc.col
        self._before = _written(node)
        self.found = (
            "\n" not in self._before
            and self._line < len(self._lines)
            and self._lines[self._line].startswith(self._before, self._column)
        )

    def replaced(self) -> str | None:
        """Return the text with the node as it is now, or None where it no longer fits on its line."""
        after = _written(self._node)
        if "\n" in after:
            return None
        line, end = self._lines[self._line], self._column + len(self._before)
        self._lines[self._line] = line[: self._column] + after + line[end:]
        return "\n".join(self._lines)


def _written(node: CommentedMap) -> str:
    return write_yaml(node).removesuffix("\n")
