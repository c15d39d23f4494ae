"""Where the user put nodes, in a small file beside a saved design; the design's own text does not hold it."""

from __future__ import annotations

import json
from pathlib import Path

from hybridlab.architecture.library import designs_folder
from hybridlab.ui.canvas.desk import clean_places

Places = dict[str, tuple[float, float]]
_MOST_BYTES = 512 * 1024


def places_file(saved_as: str) -> Path:
    """Return the file beside the saved design of that name."""
    return designs_folder() / f"{Path(saved_as).name}.places.json"


def load_places(saved_as: str) -> Places:
    """Return the kept places; none where there is no file, or one that cannot be read."""
    file = places_file(saved_as)
    try:
        if file.stat().st_size > _MOST_BYTES:
            return {}
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return clean_places(content) if isinstance(content, dict) else {}


def save_places(saved_as: str, places: Places) -> None:
    """Keep places; a folder that cannot be written costs only the layout, so nothing is said."""
    file = places_file(saved_as)
    try:
        if not places:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(places), encoding="utf-8")
        draft.replace(file)
    except OSError:
        return
