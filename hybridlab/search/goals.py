"""The objectives that a search file names, and what cannot be one."""

from __future__ import annotations

from hybridlab.errors import Problem, SpecError
from hybridlab.hardware.devices import choose
from hybridlab.hardware.meters.here import energy_account
from hybridlab.search.landscape import (
    AFTER,
    JOULES,
    PREDICTED,
    SAME,
    SAME_TIMED,
    TIMED,
    Objective,
)
from hybridlab.tasks.base import Task
from hybridlab.training.spec import TrainSpec


def objectives_of(names: tuple[str, ...], task: Task, training: TrainSpec) -> tuple[Objective, ...]:
    """Return the objectives of names: the task's metric, what is predicted, and at last what is timed, and energy.

    Raises:
        SpecError: a name is of nothing that is predicted or measured here, there is only one, or two say the same.
        DeviceError: there is no such device as the training is for.
    """
    metric = task.metric_name(task.val_splits[0])
    quality = Objective(metric, "maximize" if task.measure == "accuracy" else "minimize")
    known = {metric: quality, **PREDICTED, **TIMED, JOULES.name: JOULES}
    problems = [
        Problem(
            f"objectives[{at}]",
            "is not an objective",
            "one of " + ", ".join(known),
            repr(name),
        )
        for at, name in enumerate(names)
        if name not in known
    ]
    if len(names) < 2:
        problems.append(Problem("objectives", "there is nothing to trade", "two to four"))
    for alike in (SAME, SAME_TIMED):
        same = [name for name in names if name in alike]
        if len(same) < 2:
            continue
        problems.append(
            Problem(
                f"objectives[{names.index(same[1])}]",
                f"{same[1]} is {same[0]} said another way, since all designs train with the same batch and steps: "
                "there is nothing to trade between them",
                fix=f"leave {same[1]} out",
            )
        )
    if JOULES.name in names:
        problems += _unmetered(names.index(JOULES.name), training)
    after = [name for name in names if name in AFTER]
    if after and metric not in names:
        what = "energy" if after[0] == JOULES.name else after[0]
        words = f"{what} is measured while a design trains for {metric}, which has to be an objective too"
        problems.append(Problem("objectives", words, fix=f"add {metric}"))
    if problems:
        raise SpecError(problems)
    found = (known[name] for name in names)
    return tuple(
        sorted(found, key=lambda one: one.name in AFTER)
    )  # halving goes by the first that is measured


def _unmetered(at: int, training: TrainSpec) -> list[Problem]:
    """Return why energy cannot be an objective here; nothing where a meter works."""
    account = energy_account(choose(training.device))
    if account.sources:
        return []
    why = "; ".join(dict.fromkeys(one.sentence for one in account.not_measured))
    words = "energy is only ever measured, and no meter of it works on this machine"
    return [Problem(f"objectives[{at}]", words, "a machine with RAPL or NVML", why[:300])]
