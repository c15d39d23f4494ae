"""Telling one process from another that got the same number, and ending only the right one."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import psutil

_PROC = Path("/proc")


def birth(pid: int) -> str | None:
    """Return when a living process was born, in a form that names it for good; None when it is dead or a zombie.

    On Linux: the boot's id and the clock tick since boot, neither of which moves when someone sets the clock.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None if _has_proc() else _birth_elsewhere(pid)
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZXx" else f"{_boot()}-{fields[18]}"


@functools.cache
def _has_proc() -> bool:
    return (_PROC / "self" / "stat").exists()


@functools.cache
def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        return "boot"


def _birth_elsewhere(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        if process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
            return None
        return f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def is_alive(pid: int | None, born: str) -> bool:
    """Say whether exactly that process is alive: the same number and the same birth."""
    return pid is not None and birth(pid) == born


def send(pid: int | None, born: str, signal_number: int) -> bool:
    """Send a signal to the process group a process leads, if it still is that process; say whether it was sent."""
    if pid is None or not is_alive(pid, born):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal_number)
        else:
            os.kill(pid, signal_number)
        return True
    return False
