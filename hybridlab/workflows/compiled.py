"""Holds a training's step against PyTorch's own memory budget: compiled with some budgets, each in its own process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from hybridlab.errors import Problem, RunError
from hybridlab.planning.compared import SHARES, Compared, CompiledPoint
from hybridlab.planning.record import Figures
from hybridlab.training.spec import MEASURED

LIMIT_S = 1800.0
"""No step is compiled for longer."""
_LOOK_S = 0.2


def compare_compiled(
    text: str,
    settings: Mapping[str, Any],
    *,
    shares: Sequence[float] = SHARES,
    steps: int = 10,
    threads: int = 1,
    backend: str = "inductor",
    on_part: Callable[[int, int], object] = lambda done, parts: None,
) -> Compared:
    """Measure the step of a training plain, and compiled with each of the budgets; compiling takes minutes.

    Args:
        text: the architecture, as YAML.
        settings: those of the step, as ``TrainSpec`` has them; what was measured of a step, such as a
            plan, is left out.
        shares: PyTorch's budgets, each 0 to 1.
        steps: how many steps of each are timed.
        threads: those that a step computes with.
        backend: what compiles, for PyTorch.
        on_part: hears a few times a second how many of how many are done; what it raises ends everything at once.

    Raises:
        RunError: no budget could be measured; it says why of each.
        HybridLabError: the settings are wrong.
    """
    training = {name: value for name, value in settings.items() if name not in MEASURED}
    asked: dict[str, Any] = {"architecture": text, "training": training, "steps": steps}
    asked |= {"threads": threads, "backend": backend}
    parts = len(shares) + 1
    points: list[CompiledPoint] = []
    plain = Figures.model_validate(
        point({**asked, "share": None}, partial(on_part, 0, parts))["figures"]
    )
    for done, share in enumerate(shares, 1):
        points.append(_one({**asked, "share": share}, partial(on_part, done, parts)))
        if points[-1].measured is None and done == 1 and _for_all(points[-1].why):
            break
    if not any(one.measured for one in points):
        raise RunError(list(dict.fromkeys(Problem("", one.why) for one in points)))
    on_part(parts, parts)
    return Compared(plain=plain, points=tuple(points), torch=torch.__version__)


def point(
    asked: Mapping[str, Any],
    on_look: Callable[[], object] = lambda: None,
    limit_s: float = LIMIT_S,
) -> dict[str, Any]:
    """Measure one step in a process of its own, as ``compiled_point.measure`` does.

    Raises:
        RunError: it could not be measured; it says why.
    """
    threads = str(asked.get("threads", 1))
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as heard:
        process = subprocess.Popen(
            (sys.executable, "-m", "hybridlab.workflows.compiled_point"),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=heard,
            env=os.environ | environment | {"TORCHINDUCTOR_COMPILE_THREADS": "1"},
            start_new_session=True,
        )
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asked).encode() + b"\n")
                process.stdin.flush()
            _watched(process, on_look, limit_s)
        finally:
            _ended(process)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
        if process.returncode or not lines:
            heard.seek(0)
            raise RunError(_died(process.returncode, heard.read().decode(errors="replace")))
    found: dict[str, Any] = json.loads(lines[-1])
    if problems := found.get("problems"):
        raise RunError([Problem(**one) for one in problems])
    return found


def _one(asked: Mapping[str, Any], on_look: Callable[[], object]) -> CompiledPoint:
    try:
        found = point(asked, on_look)
    except RunError as error:
        return CompiledPoint(share=asked["share"], why=str(error))
    return CompiledPoint(
        share=asked["share"],
        measured=Figures.model_validate(found["figures"]),
        **{name: found[name] for name in ("graphs", "compile_s", "difference")},
    )


def _for_all(why: str) -> bool:
    """Say whether what is wrong with one budget is wrong with every other one, so that none need be tried."""
    return any(words in why for words in ("random numbers", "no C++ compiler", "is not planned"))


def _watched(
    process: subprocess.Popen[bytes], on_look: Callable[[], object], limit_s: float
) -> None:
    """Wait for a process to end.

    Raises:
        RunError: it took too long.
    """
    until = time.monotonic() + limit_s
    while True:
        on_look()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_S)
            return
        if time.monotonic() > until:
            minutes = limit_s / 60
            what = f"did not end within {minutes:.0f} minutes and was stopped"
            raise RunError(Problem("compile", what, fix="use a plan"))


def _ended(process: subprocess.Popen[bytes]) -> None:
    """End a process and the compilers that it started."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def _died(code: int | None, heard: str) -> Problem:
    lines = [line.strip() for line in heard.splitlines() if line.strip()]
    last = lines[-1][:200] if lines else "it said nothing"
    return Problem("compile", f"the process that measures ended with exit code {code}: {last}")
