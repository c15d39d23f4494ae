"""One root error, few children, each carrying problems a person can act on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "hint"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, what was expected, what came, and a fix."""

    path: str
    message: str
    expected: str = ""
    got: str = ""
    fix: str = ""
    severity: Severity = "error"

    def sentence(self) -> str:
        """Return the problem as one plain sentence that starts with its path."""
        text = f"{self.path}: {self.message}" if self.path else self.message
        if self.expected and self.got:
            text += f" (expected {self.expected}, got {self.got})"
        elif self.expected:
            text += f" (expected {self.expected})"
        elif self.got:
            text += f" (got {self.got})"
        return f"{text}; {self.fix}" if self.fix else text

    def as_dict(self) -> dict[str, str]:
        """Return the fields as JSON-ready text, as the command line prints them."""
        return asdict(self)


class HybridLabError(Exception):
    """Root of every error that HybridLab raises on purpose; its text is meant for the user."""

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        """Keep the problems; a bare sentence becomes one problem without a path."""
        if isinstance(problems, str):
            problems = Problem("", problems)
        if isinstance(problems, Problem):
            problems = (problems,)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(problem.sentence() for problem in self.problems))


class SpecError(HybridLabError):
    """An architecture or a settings file does not say something that can be built."""


class TaskError(HybridLabError):
    """A task is unknown, cannot get its data, or does not fit the architecture."""


class RunError(HybridLabError):
    """A run cannot be found, started, resumed, or did not come to its end."""


class StoreError(HybridLabError):
    """The store of runs cannot be opened, read or written."""


class DeviceError(HybridLabError):
    """A device is not there, or does not have the memory that was asked of it."""


class StepError(HybridLabError):
    """A component looks ahead or has no step form, so it cannot run one position at a time."""


class TraceError(HybridLabError):
    """A file cannot be read as the trace of a profiler."""
