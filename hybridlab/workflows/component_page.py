"""A component's page with what only the whole product knows: the presets that use it and the speed measured here."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.document import load
from hybridlab.architecture.library import presets
from hybridlab.components.flow_picture import MOST_STEPS
from hybridlab.components.pages import page_of
from hybridlab.places import benchmark_results


def component_page(name: str) -> dict[str, Any]:
    """Return title, ``presets``, ``page`` (Markdown), its ``sections`` and the ``flow`` of data, as plain JSON.

    The flow has no steps where it has too many for a picture.

    Raises:
        SpecError: there is no component of that name.
    """
    used_by = presets_with(name)
    found = page_of(name, used_by, benchmark_results("mixers"))
    drawn = len(found.flow.steps) <= MOST_STEPS
    return {
        "title": found.title,
        "presets": used_by,
        "page": found.markdown(),
        "sections": [{"title": part.title, "text": part.text} for part in found.sections],
        "flow": {
            "steps": [[s.id, s.kind, s.label] for s in found.flow.steps] if drawn else [],
            "edges": [list(edge) for edge in found.flow.edges] if drawn else [],
        },
    }


def presets_with(name: str) -> list[str]:
    """Return the presets that use a component."""
    return [
        entry.name
        for entry in presets()
        if any(node.use == name for _, _, node in load(entry.path).walk())
    ]
