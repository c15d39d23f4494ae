"""A search's workers as tasks of a Ray cluster (https://docs.ray.io), which finds room for them and replaces lost ones.

Each task is one worker of the study, just as ``hybridlab worker`` is one: which trial is whose is said by the study's
storage and its leases, never by Ray. So whatever dies (a task, a machine, this process), what had ended is kept, and
what was begun is gone on with by the next worker under its number. Tasks are given by name, with a study's name, its
place and two numbers; nothing else travels.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from hybridlab.errors import HybridLabError, Problem, RunError, SpecError
from hybridlab.runs.home import HOME_VARIABLE, STORE_VARIABLE, home
from hybridlab.runs.pool import child_environment
from hybridlab.runs.slots import SLOTS_VARIABLE, core_count
from hybridlab.search.claims import tally
from hybridlab.search.drive import AWAY
from hybridlab.search.front import ParetoFront
from hybridlab.search.landscape import Landscape
from hybridlab.search.places import opened
from hybridlab.search.spec import SearchSpec
from hybridlab.search.study import close, shown_place
from hybridlab.units import format_bytes
from hybridlab.workflows.search import BegunSearch, begin_search, front_of_study, work_on
from hybridlab.workflows.work import stopped_by_signals

LOCAL = "local"
"""A cluster of this machine alone, started for a search; any other address is one that runs already."""
MOST_RETRIES = 1_000
"""Of a worker that is lost; a design that kills its workers ends long before, with its reason."""
_LOOK_SECONDS = 1.0
_STOP_SECONDS = 60.0
_STARTS, _START_SECONDS = 3, 120
"""Ray would give a cluster's start 30 seconds, which a busy machine does not keep."""
_STORE_BYTES = 100 * 1024**2
"""Of Ray's own memory for what tasks hand over, of which there is none."""
Work = Callable[[str, str, int], list[dict[str, str]]]
Machine = tuple[str, str]
"""A name and an address."""


@dataclass(frozen=True)
class Room:
    """What a machine of a cluster has for tasks."""

    cpus: int
    gpus: int = 0


@dataclass(frozen=True)
class Needs:
    """How many workers there are to be, and what each of them takes of the machine that it is on."""

    workers: int
    cpus: int
    gpus: int = 0
    memory_bytes: int = 0


def needs_of(rooms: Sequence[Room], workers: int | None, *, gpu: bool, memory_bytes: int) -> Needs:
    """Return what each of so many workers may take: as many cores as let all of them run at once, if that is possible.

    Without a number there are as many workers as the cluster has GPUs, or else cores.

    Raises:
        SpecError: no machine has what one worker needs.
    """
    fitting = [room for room in rooms if room.cpus >= 1 and (room.gpus >= 1 or not gpu)]
    if not fitting:
        wanted = "a core and a GPU" if gpu else "a core"
        raise SpecError(Problem("ray", "no machine of the cluster has room", wanted))
    count = workers or sum(room.gpus if gpu else room.cpus for room in fitting)
    cpus = max(room.cpus for room in fitting)
    while cpus > 1 and _fitting(fitting, cpus, gpu=gpu) < count:
        cpus -= 1
    return Needs(count, cpus, int(gpu), memory_bytes)


def search_on_ray(
    file: str | os.PathLike[str] | SearchSpec,
    address: str,
    *,
    trials: int | None = None,
    sampler: str | None = None,
    seed: int | None = None,
    study: str | None = None,
    storage: str | None = None,
    workers: int | None = None,
    on_trial: Callable[[int, int], object] = lambda done, of: None,
    on_words: Callable[[str], object] = lambda words: None,
    should_stop: Callable[[], bool] = lambda: False,
    work: Work | None = None,
) -> ParetoFront:
    """Search as ``run_search`` does, with workers that Ray places; return the front.

    ``address`` is ``local``, ``auto`` or a cluster's own. ``workers`` is as many as the cluster has room for where it
    is left out. ``work`` is what a task does, ``be_worker`` unless it is a test.

    Raises:
        SpecError: as ``run_search``; or Ray is not installed, no machine has room, or one cannot reach the storage.
        TaskError, StoreError: as ``run_search``.
        RunError: as ``run_search``; or the cluster cannot be reached, or went away.
    """
    ray = _ray()
    begun = begin_search(
        file, trials=trials, sampler=sampler, seed=seed, study=study, storage=_absolute(storage)
    )
    on_words(f"study: {begun.name}")
    with _connected(ray, address):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        rooms = [_room(node["Resources"]) for node in nodes]
        gpu, memory_bytes = _of_a_training(begun.landscape, rooms)
        needs = needs_of(rooms, workers, gpu=gpu, memory_bytes=memory_bytes)
        machines = _machines(nodes)
        environment = _environment(machines, str(begun.place))
        on_words(_said(machines, needs))
        task = ray.remote(work or be_worker).options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            memory=needs.memory_bytes or None,
            max_retries=MOST_RETRIES,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": environment},
        )
        given = [
            task.remote(begun.name, str(begun.place), needs.cpus) for _ in range(needs.workers)
        ]
        _see_through(ray, given, begun, on_trial, should_stop)
    return front_of_study(begun.name, begun.place)


def be_worker(study: str, place: str, cpus: int) -> list[dict[str, str]]:
    """Be one worker of a study until it is done, as a task of Ray; return what went wrong, nothing as a rule."""
    # Runs of this machine go by its own supervisor; it may let as many run at once as Ray sends here.
    os.environ.setdefault(SLOTS_VARIABLE, str(max(1, core_count() // cpus)))
    try:
        with stopped_by_signals() as should_stop:
            work_on(study, place=place, threads=cpus, should_stop=should_stop)
    except HybridLabError as error:
        return [problem.as_dict() for problem in error.problems]
    return []


def _see_through(
    ray: Any,
    given: list[Any],
    begun: BegunSearch,
    on_trial: Callable[[int, int], object],
    should_stop: Callable[[], bool],
) -> None:
    """Wait until a worker says that the study is done, or the search is to stop; then let all others go."""
    study = opened(begun.name, begun.place)
    told, waiting, problems = -1, given, list[Problem]()
    done, leaving_since = False, 0.0
    try:
        while waiting:
            ended, waiting = ray.wait(waiting, timeout=_LOOK_SECONDS)
            for one in ended:
                wrong = _wrong(ray, one)
                done, problems = done or not wrong, problems + wrong
            with contextlib.suppress(*AWAY):  # workers wait for a storage that is away
                count = tally(study).ended
                if count != told:
                    on_trial(count, begun.trials)
                told = count
            if not leaving_since and (done or should_stop()):
                leaving_since = time.monotonic()
                for one in waiting:  # one that works hears a Ctrl-C and gives back what it runs
                    ray.cancel(one)
            elif leaving_since and time.monotonic() - leaving_since > _STOP_SECONDS:
                for one in waiting:
                    ray.cancel(one, force=True)
    finally:
        close(study)
    if problems and not done and not should_stop():
        raise RunError(problems)


def _wrong(ray: Any, task: Any) -> list[Problem]:
    """Return what went wrong in a task that has ended; nothing of one that was told to leave."""
    try:
        return [Problem(**one) for one in ray.get(task)]
    except ray.exceptions.TaskCancelledError:
        return []
    except ray.exceptions.RayError as error:
        words = (str(error).strip() or type(error).__name__).splitlines()
        return [Problem("ray", "a worker ended with an error", got=words[-1][:300])]


def _of_a_training(landscape: Landscape, rooms: Sequence[Room]) -> tuple[bool, int]:
    """Return whether a trial takes a GPU, and else the memory that the limits allow it, 0 where they say nothing."""
    training = getattr(landscape, "training", None)
    if training is None:
        return False, 0
    device = str(training.device)
    gpu = device.startswith("cuda") or (device == "auto" and any(room.gpus for room in rooms))
    return gpu, 0 if gpu else int(landscape.limits.get("peak_bytes", 0))


def _absolute(storage: str | None) -> str | None:
    """Return a storage's place as it is found from any folder."""
    if storage is None or ("://" in storage and not storage.startswith("sqlite")):
        return storage
    if "://" not in storage:
        return str(Path(storage).absolute())
    url = make_url(storage)
    return str(url.set(database=str(Path(url.database).absolute()))) if url.database else storage


def _fitting(rooms: Sequence[Room], cpus: int, *, gpu: bool) -> int:
    """Return how many workers of so many cores fit at once."""
    return sum(min(room.cpus // cpus, room.gpus if gpu else room.cpus) for room in rooms)


def _room(resources: dict[str, float]) -> Room:
    return Room(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))


def _machines(nodes: Sequence[dict[str, Any]]) -> set[Machine]:
    """Return the machines that nodes are on: a machine can have several, and several can have one name."""
    return {(str(node["NodeManagerHostname"]), str(node["NodeManagerAddress"])) for node in nodes}


def _is_this(machines: set[Machine]) -> bool:
    """Say whether there is no machine but this one."""
    return len(machines) == 1 and {name for name, _ in machines} == {socket.gethostname()}


def _environment(machines: set[Machine], place: str) -> dict[str, str]:
    """Return what workers are to find in their environment: on this machine alone this home, elsewhere their own.

    Raises:
        SpecError: the study is in a file, which other machines do not reach.
    """
    if _is_this(machines):
        kept = (STORE_VARIABLE, SLOTS_VARIABLE)
        given = {name: os.environ[name] for name in kept if os.environ.get(name)}
        return {
            **given,
            HOME_VARIABLE: str(home()),
            "PYTHONPATH": child_environment()["PYTHONPATH"],
        }
    if "://" not in place or place.startswith("sqlite"):
        count = len(machines)
        raise SpecError(
            Problem(
                "storage",
                f"the cluster has {count} machines, and a file is reached by one"
                if count > 1
                else "the cluster is another machine, which does not reach a file of this one",
                "a database that all reach",
                shown_place(place),
                "give --storage postgresql://USER@HOST/DATABASE",
            )
        )
    return {}


def _said(machines: set[Machine], needs: Needs) -> str:
    where = "another machine" if len(machines) == 1 else f"{len(machines):,} machines"
    where = "this machine" if _is_this(machines) else where
    each = f"{needs.cpus} core{'s' if needs.cpus > 1 else ''}" + (
        " and a GPU" if needs.gpus else ""
    )
    memory = f", {format_bytes(needs.memory_bytes)} of memory" if needs.memory_bytes else ""
    return f"ray: {needs.workers:,} workers of {each}{memory} on {where}"


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Join a cluster, or start one, for the length of a block.

    Raises:
        RunError: there is none at the address, or it is of another version.
    """
    local = address == LOCAL
    more = (
        {"num_cpus": core_count(), "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        if local
        else {}
    )
    here = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if here else None
    for attempt in range(_STARTS if local else 1):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
            break
        except Exception as error:  # of Ray's own kinds and plain ones
            ray.shutdown()
            if local and attempt + 1 < _STARTS:
                continue
            words = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            fix = "" if local else "`ray start --head` starts one; --ray local needs none"
            raise RunError(
                Problem("ray", "the cluster cannot be joined", repr(address), words, fix)
            ) from None
    if here:
        signal.signal(signal.SIGTERM, before)  # which Ray took
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    """Return Ray.

    Raises:
        SpecError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # and it warns of nothing
    os.environ.setdefault("RAY_raylet_start_wait_time_s", str(_START_SECONDS))
    try:
        import ray
    except ImportError:
        raise SpecError(
            Problem(
                "ray",
                "Ray is not installed",
                fix="install it with pip install 'hybridlab[cluster]'",
            )
        ) from None
    return ray
