"""Settings in which every component is tried beside its defaults: one file a component, one line a setting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hybridlab.components.registry import palette


def _cases() -> Iterator[Any]:
    for name in palette():
        path = Path(__file__).parent / f"{name}.yaml"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ["- {}"]:
            params = YAML(typ="safe").load(line)[0]
            said = ", ".join(f"{key}={value}" for key, value in params.items())
            yield pytest.param(name, params, id=f"{name}({said})")


every_case = pytest.mark.parametrize(("name", "params"), list(_cases()))
