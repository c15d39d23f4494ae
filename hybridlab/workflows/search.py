"""Searches what a search file describes: opens the study in the home folder, runs trials, returns the front."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from hybridlab.runs.home import home
from hybridlab.search.front import ParetoFront, front_of
from hybridlab.search.opening import landscape_of
from hybridlab.search.samplers import make_sampler
from hybridlab.search.spec import SearchSpec, read_search
from hybridlab.search.study import open_storage, open_study, search


def searches_folder() -> Path:
    """Return the folder of studies, a journal file each, as ``optuna-dashboard FILE`` opens; it may not exist yet."""
    return home() / "searches"


def run_search(
    file: str | os.PathLike[str] | SearchSpec,
    *,
    trials: int | None = None,
    sampler: str | None = None,
    seed: int | None = None,
    study: str | None = None,
    storage: str | None = None,
    on_trial: Callable[[int, int], object] = lambda done, of: None,
) -> ParetoFront:
    """Search until the study holds so many finished trials; return its front.

    What is left out comes from the file. A ``study`` that exists is gone on with, otherwise it is made; without a name
    it gets a new one. ``storage`` is a URL such as ``sqlite:///searches.sqlite`` or a journal file.

    Raises:
        SpecError: the file, the space, a limit or the sampler is wrong.
        TaskError: the task is unknown or does not fit.
        RunError: the study of this name is of something else.
        StoreError: the storage cannot be opened.
    """
    spec = file if isinstance(file, SearchSpec) else read_search(file)
    count = spec.trials if trials is None else trials
    chance = spec.seed if seed is None else seed
    landscape = landscape_of(spec)
    chosen = make_sampler(sampler or spec.sampler, landscape, seed=chance, trials=count)
    name = study or f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    place = storage or searches_folder() / f"{name}.journal"
    opened = open_study(landscape, chosen, storage=open_storage(place), name=name)
    search(
        opened, landscape, count, seed=chance, on_trial=lambda done, trial: on_trial(done, count)
    )
    return front_of(opened, landscape)
