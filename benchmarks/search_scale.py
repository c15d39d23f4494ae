"""One study worked on by 1, 2 and 4 processes: trials a second, and the share of what as many would do at best.

    python benchmarks/search_scale.py
    python benchmarks/search_scale.py --storages journal --workers 1 2 --trials 20

Each trial rests for ``TRIAL_S`` in place of a training, so that cores do not limit what the storage is asked about; at
best, W workers end W / TRIAL_S trials a second. Workers are processes of their own that join, wait for each other, and
are timed from the first trial's beginning to the last one's end, as the study itself noted them. The sampler is random:
how long an ask takes is told by ``search.py``. PostgreSQL is measured where HYBRIDLAB_TEST_POSTGRES holds a URL.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import secrets
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.drive import Here, drive
from hybridlab.search.landscape import ClosedFormLandscape, Outcome
from hybridlab.search.leases import Leases
from hybridlab.search.samplers import make_sampler
from hybridlab.search.space import Codes
from hybridlab.search.study import close, open_storage, open_study

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
TRIAL_S = 0.5
POSTGRES = os.environ.get("HYBRIDLAB_TEST_POSTGRES", "")


class Resting(ClosedFormLandscape):
    """The closed form, with trials that take a while and no processor."""

    def measure(self, row_P: Codes, seed: int) -> Outcome:
        """Rest, then tell what the formulas do."""
        time.sleep(TRIAL_S)
        return super().measure(row_P, seed)


def work(place: str, seed: int, trials: int, start: Any) -> None:
    """Be one worker of the study in a place."""
    landscape = Resting(ClosedForm())
    study = open_study(
        landscape,
        make_sampler("random", landscape, seed=seed),
        storage=open_storage(place),
        name="s",
    )
    leases = Leases(place, "s")
    leases.join()
    start.wait()
    drive(study, landscape, leases, trials, Here(landscape))
    leases.leave()
    close(study)


def rate(place: str, workers: int, trials: int) -> float:
    """Return trials a second of so many workers on a new study."""
    landscape = Resting(ClosedForm())
    study = open_study(
        landscape, make_sampler("random", landscape), storage=open_storage(place), name="s"
    )
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(workers)
    made = [
        context.Process(target=work, args=(place, seed, trials, start)) for seed in range(workers)
    ]
    for one in made:
        one.start()
    for one in made:
        one.join()
        assert one.exitcode == 0
    ended = study.get_trials(deepcopy=False)
    assert len(ended) == trials and all(one.state.is_finished() for one in ended)
    begun = min(one.datetime_start for one in ended if one.datetime_start)
    last = max(one.datetime_complete for one in ended if one.datetime_complete)
    close(study)
    return trials / (last - begun).total_seconds()


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ["journal", "sqlite", *(["postgresql"] if POSTGRES else [])]
    parser.add_argument("--storages", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, default=12, help="trials of each worker")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is told")
    options = parser.parse_args()
    rates: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):  # all take turns, so that a busy minute hits each alike
            for storage in options.storages:
                for workers in options.workers:
                    place = place_of(storage, Path(folder))
                    found = rate(place, workers, workers * options.trials)
                    rates.setdefault((storage, workers), []).append(found)
                    if storage == "postgresql":
                        drop(place)
    rows = []
    print(f"{'storage':<12}{'workers':>8}{'trials/s':>10}{'of ideal':>10}")
    for (storage, workers), all_found in rates.items():
        middle = statistics.median(all_found)
        share = middle * TRIAL_S / workers
        rows.append({"storage": storage, "workers": workers, "rate": middle, "share": share})
        print(f"{storage:<12}{workers:>8}{middle:>10.2f}{share:>10.1%}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    told = {"trial_s": TRIAL_S, "rounds": options.rounds, "rows": rows}
    (RESULTS / "search_scale.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
