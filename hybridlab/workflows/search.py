"""Searches what a search file describes: opens the study, runs trials with any number of workers, returns the front."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hybridlab.architecture.kept import keeping
from hybridlab.errors import Problem, SpecError
from hybridlab.runs.pool import child_environment, module_command
from hybridlab.search.claims import tally
from hybridlab.search.description import TRIALS, describe, description_of
from hybridlab.search.drive import Here, Seats, drive
from hybridlab.search.front import ParetoFront, front_of
from hybridlab.search.halving import rungs_of
from hybridlab.search.landscape import JOULES, Landscape
from hybridlab.search.leases import Leases
from hybridlab.search.opening import landscape_of
from hybridlab.search.places import check_name, note_place, opened, place_of, searches_folder
from hybridlab.search.samplers import DEFAULT, make_sampler
from hybridlab.search.spec import SearchSpec, read_search
from hybridlab.search.study import close, open_storage, open_study

__all__ = [
    "BegunSearch",
    "begin_search",
    "front_of_study",
    "run_search",
    "searches_folder",
    "work_on",
]

OnTrial = Callable[[int, int], object]


@dataclass(frozen=True)
class BegunSearch:
    """A study that is there to be worked on: its name and place, what is searched, how, and for how many trials."""

    name: str
    place: str | Path
    landscape: Landscape
    sampler: str
    seed: int
    trials: int
    fresh: bool
    """Whether no trial has begun."""


@keeping()
def run_search(
    file: str | os.PathLike[str] | SearchSpec,
    *,
    trials: int | None = None,
    sampler: str | None = None,
    seed: int | None = None,
    study: str | None = None,
    storage: str | None = None,
    workers: int = 1,
    on_trial: OnTrial = lambda done, of: None,
    on_words: Callable[[str], object] = lambda words: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ParetoFront:
    """Search until the study holds so many finished trials; return its front.

    What is left out comes from the file. A ``study`` that exists is gone on with, otherwise it is made; without a name
    it gets a new one. ``storage`` is a URL such as ``sqlite:///searches.sqlite`` or a journal file. Trials that are
    trained are runs of this home, ``workers`` of them at once; those of a closed form or of the trained table are
    measured by as many processes. ``on_trial`` is told how many have ended, of how many; ``on_words`` what else is of
    interest.

    Raises:
        SpecError: the file, the space, a limit, the name or the sampler is wrong.
        TaskError: the task is unknown or does not fit.
        RunError: the study of this name is of something else, or of a newer version.
        StoreError: the storage cannot be opened, or was away for too long.
    """
    begun = begin_search(
        file, trials=trials, sampler=sampler, seed=seed, study=study, storage=storage
    )
    on_words(f"study: {begun.name}")
    with _others(begun.name, workers - 1 if begun.landscape.instant else 0):
        return work_on(
            begun.name,
            place=begun.place,
            landscape=begun.landscape,
            sampler=begun.sampler,
            seed=begun.seed,
            fresh=begun.fresh,
            workers=workers,
            on_trial=on_trial,
            on_words=on_words,
            should_stop=should_stop,
        )


@keeping()
def begin_search(
    file: str | os.PathLike[str] | SearchSpec,
    *,
    trials: int | None = None,
    sampler: str | None = None,
    seed: int | None = None,
    study: str | None = None,
    storage: str | None = None,
) -> BegunSearch:
    """Open the study of a search, or make it, for whoever works on it; nothing is tried yet.

    Raises:
        SpecError, TaskError, RunError, StoreError: as ``run_search``.
    """
    spec = file if isinstance(file, SearchSpec) else read_search(file)
    count = spec.trials if trials is None else trials
    chance = spec.seed if seed is None else seed
    method = sampler or spec.sampler
    landscape = landscape_of(spec)
    made = f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    name = check_name(study or made)
    place = storage or place_of(name)
    make_sampler(
        method, landscape, seed=chance, trials=count
    )  # a wrong name is told before the study is made
    kept = open_storage(place)
    begun = open_study(landscape, make_sampler("random", landscape), storage=kept, name=name)
    try:
        note_place(name, place)
        describe(begun, spec, landscape, sampler=method, seed=chance, rungs=_rungs(spec, landscape))
        begun.set_user_attr(TRIALS, count)
        fresh = not tally(begun).begun
    finally:
        close(begun)
    return BegunSearch(name, place, landscape, method, chance, count, fresh)


@keeping()
def work_on(
    study: str,
    *,
    place: str | Path | None = None,
    landscape: Landscape | None = None,
    sampler: str | None = None,
    seed: int | None = None,
    fresh: bool = False,
    workers: int = 1,
    threads: int | None = None,
    on_trial: OnTrial = lambda done, of: None,
    on_words: Callable[[str], object] = lambda words: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ParetoFront:
    """Work on a study that exists, beside whoever else does, until it has the trials asked for; return its front.

    What is left out is as the study says. ``fresh`` says that nobody else has begun, so that the seed alone decides.
    ``threads`` are those of a trial's training; its share of this machine's cores where they are left out.

    Raises:
        SpecError, TaskError: what the study describes does not fit what is installed here.
        RunError: there is no such study, it does not say what it is, or a newer program made it.
        StoreError: its storage cannot be opened, or was away for too long.
    """
    where = place or place_of(study)
    found = opened(study, where)
    try:
        about = description_of(found)
        count = int(found.user_attrs.get(TRIALS, about.spec.trials))
    finally:
        close(found)
    if place is not None:
        note_place(study, place)
    if landscape is None:
        landscape = landscape_of(about.spec, about.architecture)
    chance = about.seed if seed is None else seed
    leases = Leases(where, study)
    method = sampler or about.sampler
    # Workers that begin with the same numbers would try the same designs; ours goes by the trial's number.
    own = chance if method == DEFAULT or fresh else zlib.crc32(leases.token.encode()) ^ chance
    chosen = make_sampler(method, landscape, seed=own, trials=count)
    found = open_study(landscape, chosen, storage=open_storage(where), name=study)
    try:
        leases.join()
        drive(
            found,
            landscape,
            leases,
            count,
            _seats(study, landscape, about.spec, tuple(about.rungs), workers, threads, chance),
            on_trial=lambda done, trial: on_trial(done, count),
            should_stop=should_stop,
            on_away=lambda why: on_words(f"the storage is away, waiting for it: {why}"),
        )
        return front_of(found, landscape)
    finally:
        leases.leave()
        close(found)


@keeping()
def front_of_study(study: str, place: str | Path | None = None) -> ParetoFront:
    """Return the front that a study has by now.

    Raises:
        SpecError, TaskError: what the study describes does not fit what is installed here.
        RunError: there is no such study, or it does not say what it is.
        StoreError: its storage cannot be opened.
    """
    found = opened(study, place)
    try:
        about = description_of(found)
        return front_of(found, landscape_of(about.spec, about.architecture))
    finally:
        close(found)


def _seats(
    study: str,
    landscape: Landscape,
    spec: SearchSpec,
    rungs: tuple[int, ...],
    workers: int,
    threads: int | None,
    seed: int,
) -> Seats:
    if landscape.instant:
        return Here(landscape, seed)
    from hybridlab.search.trained import TrainedLandscape
    from hybridlab.workflows.trial_runs import RunSeats

    assert isinstance(landscape, TrainedLandscape)
    if workers > 1 and JOULES in landscape.objectives:
        words = "energy meters count the whole machine, so trials have to run one at a time"
        raise SpecError(Problem("workers", words, "1", str(workers), "search with one worker"))
    return RunSeats(
        study, landscape, workers, threads=threads, rungs=rungs, eta=spec.halving.eta, seed=seed
    )


def _rungs(spec: SearchSpec, landscape: Landscape) -> tuple[int, ...]:
    steps = getattr(getattr(landscape, "training", None), "steps", 0)
    return rungs_of(steps, spec.halving.eta, spec.halving.rungs) if steps else ()


@contextmanager
def _others(study: str, count: int) -> Iterator[None]:
    """Have so many more processes work on a study for the length of a block; they end with it, or when it is done."""
    if not count:
        yield
        return
    command = module_command("hybridlab.workflows.work", study)
    with (searches_folder() / f"{study}.log").open("ab") as log:
        started = [
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
                start_new_session=True,  # a Ctrl-C is for the first process, which tells them
            )
            for _ in range(count)
        ]
    try:
        yield
        for child in started:
            child.wait()
    finally:
        for child in started:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.wait()
