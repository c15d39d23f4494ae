"""Workers whose trials rest, in processes of their own or as tasks of Ray: what ``search_scale.py`` measures."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.drive import Here, drive
from hybridlab.search.landscape import ClosedFormLandscape, Outcome
from hybridlab.search.leases import Leases
from hybridlab.search.places import opened
from hybridlab.search.samplers import make_sampler
from hybridlab.search.space import Codes
from hybridlab.search.spec import ClosedFormSpec, SearchSpec
from hybridlab.search.study import close, open_storage, open_study
from hybridlab.workflows.cluster import search_on_ray
from hybridlab.workflows.search import begin_search

TRIAL_S = 0.5
STUDY = "s"
SEARCH = SearchSpec(name="closed-form", closed_form=ClosedFormSpec(), sampler="random")
_TOGETHER = "workers_that_begin_together"
_OBJECTS_BYTES = 100 * 1024**2


class Resting(ClosedFormLandscape):
    """The closed form, with trials that take a while and no processor."""

    def measure(self, row_P: Codes, seed: int) -> Outcome:
        """Rest, then tell what the formulas do."""
        time.sleep(TRIAL_S)
        return super().measure(row_P, seed)


def work(place: str, seed: int, trials: int, wait: Callable[[Leases], object]) -> None:
    """Be one worker of the study in a place, once ``wait`` returns."""
    landscape = Resting(ClosedForm())
    sampler = make_sampler("random", landscape, seed=seed)
    study = open_study(landscape, sampler, storage=open_storage(place), name=STUDY)
    leases = Leases(place, STUDY)
    leases.join()
    wait(leases)
    drive(study, landscape, leases, trials, Here(landscape))
    leases.leave()
    close(study)


def work_on_ray(study: str, place: str, cpus: int) -> list[dict[str, str]]:
    """Be one worker as a task of Ray, once as many have joined as the study says."""
    found = opened(study, place)
    workers, trials = found.user_attrs[_TOGETHER]
    close(found)

    def wait(leases: Leases) -> None:
        while len(leases.workers()) < workers:
            time.sleep(0.02)

    work(place, secrets.randbits(31), trials, wait)
    return []


def search_with_ray(address: str, place: str, workers: int, trials: int) -> datetime:
    """Search with workers that Ray places; return when it began."""
    begin_search(SEARCH, trials=trials, study=STUDY, storage=place)
    study = opened(STUDY, place)
    study.set_user_attr(_TOGETHER, [workers, trials])
    close(study)
    began = datetime.now()
    search_on_ray(
        SEARCH,
        address,
        trials=trials,
        study=STUDY,
        storage=place,
        workers=workers,
        work=work_on_ray,
    )
    return began


@contextmanager
def cluster(cores: int) -> Iterator[tuple[str, float]]:
    """Start a cluster of this machine with so many cores, which tasks that rest need not have; yield address, seconds.

    Nobody gets in without its token.
    """
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}
    from ray.cluster_utils import Cluster

    room = {"num_cpus": cores, "object_store_memory": _OBJECTS_BYTES, "include_dashboard": False}
    began = time.monotonic()
    made = Cluster(initialize_head=True, head_node_args=room)
    try:
        yield made.address, time.monotonic() - began
    finally:
        made.shutdown()
