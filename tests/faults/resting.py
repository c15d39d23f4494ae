"""What tests give to Ray in place of a worker: the same, with trials that rest for a while.

``python -m tests.faults.resting FILE STUDY STORAGE TRIALS`` is the driver of such a search.
"""

import sys
import time

from hybridlab.search.landscape import ClosedFormLandscape
from hybridlab.workflows.cluster import LOCAL, be_worker, search_on_ray
from hybridlab.workflows.work import stopped_by_signals

RESTS_S = 0.4


def rest_and_work(study: str, place: str, cpus: int) -> list[dict[str, str]]:
    measure = ClosedFormLandscape.measure

    def rested(self, row_P, seed):
        time.sleep(RESTS_S)
        return measure(self, row_P, seed)

    ClosedFormLandscape.measure = rested
    try:
        return be_worker(study, place, cpus)
    finally:
        ClosedFormLandscape.measure = measure


def main() -> None:
    from tests.faults.resting import rest_and_work as known  # by a name that workers find it by

    file, study, storage, trials = sys.argv[1:]
    with stopped_by_signals() as should_stop:
        search_on_ray(
            file,
            LOCAL,
            study=study,
            storage=storage,
            trials=int(trials),
            sampler="random",
            on_words=print,
            should_stop=should_stop,
            work=known,
        )


if __name__ == "__main__":
    main()
