"""Runs command lines in this process and reads what they promise: the last line of stdout, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hybridlab.cli import run


@dataclass(frozen=True)
class Said:
    """What a command line said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of stdout, read as strict JSON."""

        def refuse(constant: str) -> None:
            raise ValueError(f"{constant} is not JSON")

        return json.loads(self.out.strip().splitlines()[-1], parse_constant=refuse)


@pytest.fixture
def home(
    tmp_path: Path,
    machine_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    supervisor_ender: Callable[[Path], None],
) -> Iterator[Path]:
    """A home folder of its own, but for what was measured of the machine: that is known."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "cache").symlink_to(machine_cache, target_is_directory=True)
    monkeypatch.setenv("HYBRIDLAB_HOME", str(folder))
    monkeypatch.delenv("HYBRIDLAB_STORE", raising=False)
    yield folder
    supervisor_ender(folder)


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Return a function that runs one command line."""

    def say(*arguments: str) -> Said:
        capsys.readouterr()
        code = run(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Said(code, out, err)

    return say
