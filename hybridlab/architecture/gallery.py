"""What is known of the presets beside their texts: the task they are shown on, and what was measured. Free of torch."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

from hybridlab.places import sample_configs


class Measured(BaseModel):
    """A figure that was measured, as the lab log has it: of which task, in which time, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    metric: str
    value: float
    took: str
    """The time it took, in words, with its unit."""
    where: str
    """How far it was trained, and on what."""
    date: str
    """The date of its entry in the lab log."""

    def words(self) -> str:
        """Return the figure as people write it, such as ``test accuracy 0.986 on digits_sequence``."""
        return f"{self.metric} {self.value:.3g} on {self.task}"


class Shown(BaseModel):
    """What the gallery says of a preset: the task of its predicted cost, and the figures that were measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    measured: tuple[Measured, ...] = Field(default=())


def gallery_file() -> Path:
    """Return the file that has it."""
    return sample_configs() / "gallery.yaml"


@functools.cache
def gallery() -> dict[str, Shown]:
    """Return what is known of each preset, by its name; nothing where the file did not come along."""
    try:
        content = YAML(typ="safe", pure=True).load(gallery_file().read_text(encoding="utf-8"))
    except OSError:
        return {}
    return {name: Shown.model_validate(entry) for name, entry in content.items()}
