"""What tests give to Ray in place of a worker: the same, with trials that rest for a while.

``python -m tests.faults.resting FILE STUDY STORAGE TRIALS ADDRESS [WORKERS]`` is the driver of such a search.
"""

import os
import sys
import time

from hybridlab.search.landscape import ClosedFormLandscape
from hybridlab.workflows.cluster import be_worker, search_on_ray
from hybridlab.workflows.work import stopped_by_signals

RESTS_VARIABLE, RESTS_S = "HYBRIDLAB_TEST_RESTS", 3.0
"""So long that a kill falls inside one also where a busy machine takes a second to find it; one may rest longer."""


def rest_and_work(study: str, place: str, cpus: int) -> list[dict[str, str]]:
    measure = ClosedFormLandscape.measure

    def rested(self, row_P, seed):
        time.sleep(float(os.environ.get(RESTS_VARIABLE, RESTS_S)))
        return measure(self, row_P, seed)

    ClosedFormLandscape.measure = rested
    try:
        return be_worker(study, place, cpus)
    finally:
        ClosedFormLandscape.measure = measure


def main() -> None:
    from tests.faults.resting import rest_and_work as known  # by a name that workers find it by

    file, study, storage, trials, address, *workers = sys.argv[1:]
    with stopped_by_signals() as should_stop:
        search_on_ray(
            file,
            address,
            study=study,
            storage=storage,
            trials=int(trials),
            sampler="random",
            workers=int(workers[0]) if workers else None,
            on_words=lambda words: print(words, flush=True),
            should_stop=should_stop,
            work=known,
        )


if __name__ == "__main__":
    main()
