"""One study worked on by 1, 2 and 4 workers: trials a second, and the share of what as many would do at best.

    python benchmarks/search_scale.py
    python benchmarks/search_scale.py --storages journal ray-journal --workers 1 2 --trials 20

Each trial rests for ``TRIAL_S`` in place of a training, so that cores do not limit what the storage is asked about; at
best, W workers end W / TRIAL_S trials a second. Workers are processes of their own that join, wait for each other, and
are timed from the first trial's beginning to the last one's end, as the study itself noted them. The sampler is random:
how long an ask takes is told by ``search.py``. PostgreSQL is measured where HYBRIDLAB_TEST_POSTGRES holds a URL.

``ray-journal`` and ``ray-postgresql`` are the same storages with workers that Ray places, by what ``hybridlab search
--ray`` does, in one cluster of this machine for all; how long that took to start, and the workers to begin, is told
beside the table.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import secrets
import statistics
import tempfile
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from resting_trials import STUDY, TRIAL_S, Resting, cluster, search_with_ray, work

from hybridlab.runs.home import HOME_VARIABLE
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.leases import Leases
from hybridlab.search.places import opened
from hybridlab.search.samplers import make_sampler
from hybridlab.search.study import close, open_storage, open_study

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
POSTGRES = os.environ.get("HYBRIDLAB_TEST_POSTGRES", "")
RAY = "ray-"


def work_beside(place: str, seed: int, trials: int, start: Any) -> None:
    """Be one worker of the study, in a process of its own, once all are there."""

    def wait(leases: Leases) -> None:
        start.wait()

    work(place, seed, trials, wait)


def search_beside(place: str, workers: int, trials: int) -> datetime:
    """Search with so many processes; return when it began."""
    landscape = Resting(ClosedForm())
    sampler = make_sampler("random", landscape)
    close(open_study(landscape, sampler, storage=open_storage(place), name=STUDY))
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(workers)
    made = [
        context.Process(target=work_beside, args=(place, seed, trials, start))
        for seed in range(workers)
    ]
    began = datetime.now()
    for one in made:
        one.start()
    for one in made:
        one.join()
        assert one.exitcode == 0
    return began


def rate(place: str, workers: int, trials: int, address: str = "") -> tuple[float, float]:
    """Return trials a second of so many workers on a new study, and the seconds until the first trial began."""
    searched = (
        search_with_ray(address, place, workers, trials)
        if address
        else search_beside(place, workers, trials)
    )
    study = opened(STUDY, place)
    ended = study.get_trials(deepcopy=False)
    close(study)
    assert len(ended) == trials and all(one.state.is_finished() for one in ended)
    begun = min(one.datetime_start for one in ended if one.datetime_start)
    last = max(one.datetime_complete for one in ended if one.datetime_complete)
    return trials / (last - begun).total_seconds(), (begun - searched).total_seconds()


def place_of(storage: str, folder: Path) -> str:
    """Return a new place of a kind of storage."""
    name = secrets.token_hex(4)
    if storage == "journal":
        return str(folder / f"{name}.journal")
    if storage == "sqlite":
        return f"sqlite:///{folder / name}.sqlite"
    engine = sa.create_engine(sa.make_url(POSTGRES).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(f"scale_{name}"))
    engine.dispose()
    return f"{POSTGRES}{'&' if '?' in POSTGRES else '?'}options=-csearch_path%3Dscale_{name}"


def drop(place: str) -> None:
    """Remove what a measurement left in PostgreSQL."""
    engine = sa.create_engine(sa.make_url(POSTGRES).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sa.schema.DropSchema(place.rpartition("%3D")[2], cascade=True))
    engine.dispose()


def measured(
    storages: Iterable[str], all_workers: Iterable[int], trials: int, rounds: int, address: str
) -> list[dict[str, Any]]:
    """Return a row of each storage and number of workers: rate, share of the ideal, and seconds to begin; medians."""
    rates: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ[HOME_VARIABLE] = str(Path(folder) / "home")
        for _ in range(rounds):  # all take turns, so that a busy minute hits each alike
            for storage in storages:
                for workers in all_workers:
                    place = place_of(storage.removeprefix(RAY), Path(folder))
                    by = address if storage.startswith(RAY) else ""
                    found = rate(place, workers, workers * trials, by)
                    rates.setdefault((storage, workers), []).append(found)
                    if storage.endswith("postgresql"):
                        drop(place)
    rows = []
    for (storage, workers), found in rates.items():
        middle, begin_s = (statistics.median(column) for column in zip(*found, strict=True))
        share = middle * TRIAL_S / workers
        told = {"rate": middle, "share": share, "begin_s": begin_s}
        rows.append({"storage": storage, "workers": workers, **told})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ["journal", "sqlite", *(["postgresql"] if POSTGRES else [])]
    if importlib.util.find_spec("ray"):
        kinds += [f"{RAY}{kind}" for kind in kinds if kind != "sqlite"]
    parser.add_argument("--storages", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, default=12, help="trials of each worker")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is told")
    options = parser.parse_args()
    by_ray = any(storage.startswith(RAY) for storage in options.storages)
    with cluster(max(options.workers)) if by_ray else nullcontext(("", 0.0)) as (address, start_s):
        rows = measured(options.storages, options.workers, options.trials, options.rounds, address)
    print(f"{'storage':<16}{'workers':>8}{'trials/s':>10}{'of ideal':>10}{'to begin, s':>13}")
    for row in rows:
        print(
            f"{row['storage']:<16}{row['workers']:>8}{row['rate']:>10.2f}{row['share']:>10.1%}"
            f"{row['begin_s']:>13.1f}"
        )
    if by_ray:
        print(f"Ray's cluster took {start_s:.1f} s to start, once for all.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    told = {"trial_s": TRIAL_S, "rounds": options.rounds, "ray_start_s": start_s, "rows": rows}
    (RESULTS / "search_scale.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
