"""The loop of one worker of a study: takes trials, has them run, tells what they gave, until enough have ended.

Any number of workers may drive one study at once, on one machine or many; whoever dies, the others or the next go on
with what it had begun. Where the storage is away the loop waits, and what has ended meanwhile is told when it is back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from hybridlab.errors import Problem, StoreError
from hybridlab.runs.verdict import is_out_of_memory
from hybridlab.search.again import SEED
from hybridlab.search.claims import end, give_back, holders, take, tally
from hybridlab.search.database import together
from hybridlab.search.halving import PRICES
from hybridlab.search.landscape import Landscape, Outcome
from hybridlab.search.leases import Leases
from hybridlab.search.space import Codes
from hybridlab.search.study import NOT_NEAR, grid_size, mended_row

AWAY = (StoreError, StorageInternalError, sa.exc.SQLAlchemyError, OSError)
"""What a storage raises that is away, full or locked."""
PATIENCE_SECONDS = 300.0
_POLL_SECONDS = 0.15
_LONGEST_PAUSE_SECONDS = 2.0


class Seats(Protocol):
    """Where trials run."""

    @property
    def room(self) -> int:
        """How many more may be begun now."""

    def begin(self, trial: Trial, row_P: Codes) -> None:
        """Begin a trial's design, or go on with it where it was begun before."""

    def ended(self) -> dict[int, Outcome]:
        """Return what has ended, by number; the same again until it is cleared."""

    def clear(self, number: int) -> None:
        """Forget a trial that was told, or is another worker's now."""

    def stop(self) -> None:
        """Ask what still runs to stop; somebody may go on with it later."""


class Here:
    """One seat in this process: a trial is measured as it begins."""

    def __init__(self, landscape: Landscape, seed: int = 0) -> None:
        """Measure designs of a landscape."""
        self._landscape, self._seed = landscape, seed
        self._ended: dict[int, Outcome] = {}

    @property
    def room(self) -> int:
        """One, but for what has ended and is not told."""
        return 1 - len(self._ended)

    def begin(self, trial: Trial, row_P: Codes) -> None:
        """Measure a design; memory that runs out becomes the reason why it has no values."""
        try:
            seed = int(trial.user_attrs.get(SEED, self._seed))
            outcome = self._landscape.measure(row_P, seed)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            outcome = Outcome(reason=f"not enough memory: {error}"[:500])
        self._ended[trial.number] = outcome

    def ended(self) -> dict[int, Outcome]:
        """Return what was measured."""
        return dict(self._ended)

    def clear(self, number: int) -> None:
        """Forget a trial."""
        self._ended.pop(number, None)

    def stop(self) -> None:
        """Do nothing: between two trials nothing runs."""


def drive(
    study: Study,
    landscape: Landscape,
    leases: Leases,
    trials: int,
    seats: Seats,
    *,
    on_trial: Callable[[int, FrozenTrial], object] = lambda done, trial: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_away: Callable[[str], object] = lambda why: None,
    patience_s: float = PATIENCE_SECONDS,
) -> None:
    """Work on a study until it holds so many trials that have ended, a grid is done, or the worker is to stop.

    ``on_trial`` is told how many have ended and the one that just did. What still runs when the worker is to stop is
    given back. ``on_away`` is told why the storage cannot be used, once each time.

    Raises:
        StoreError: the storage was away for longer than ``patience_s``.
    """
    seated: dict[int, Trial] = {}
    told = _Away(patience_s, on_away)
    most = min(trials, grid_size(study) or trials)
    while True:
        with told.waiting():
            for number, outcome in seats.ended().items():
                frozen = end(study, landscape, leases, seated[number], outcome)
                seats.clear(number)
                del seated[number]
                if frozen is not None:
                    on_trial(tally(study).ended, frozen)
            if should_stop():
                seats.stop()
                for number, trial in list(seated.items()):
                    give_back(study, leases, trial)
                    seats.clear(number)
                    del seated[number]
                return
            if seats.room > 0 and (taken := take(study, landscape, leases, most, seated)):
                # Where this raises, the trial is taken once more: it has this worker's name.
                if _begin(study, landscape, leases, taken, seats):
                    seated[taken.number] = taken
                continue
            if not seated and (tally(study).ended >= most or not holders(study)):
                return
            if seats.ended():
                continue
        time.sleep(_POLL_SECONDS)


def _begin(study: Study, landscape: Landscape, leases: Leases, trial: Trial, seats: Seats) -> bool:
    """Have a trial run and say so; one whose design cannot be built ends at once."""
    with together(study):
        row = mended_row(landscape, trial)
        if row is not None and PRICES not in trial.user_attrs:
            price = landscape.prices(row[None])[0]
            told = [float(value) if np.isfinite(value) else None for value in price]
            trial.set_user_attr(PRICES, told)
    if row is None:
        end(study, landscape, leases, trial, Outcome(reason=NOT_NEAR))
        return False
    seats.begin(trial, row)
    return True


class _Away:
    """Patience with a storage that is away."""

    def __init__(self, patience_s: float, on_away: Callable[[str], object]) -> None:
        self._patience_s, self._on_away = patience_s, on_away
        self._since: float | None = None
        self._pause = _POLL_SECONDS

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Swallow what a storage raises that is away, wait a while, and raise when it has been away for too long."""
        try:
            yield
        except AWAY as error:
            now = time.monotonic()
            words = str(error).strip().splitlines() or [type(error).__name__]
            if self._since is None:
                self._since, self._pause = now, _POLL_SECONDS
                self._on_away(words[0])
            if now - self._since > self._patience_s:
                raise StoreError(
                    Problem(
                        "storage",
                        f"the search's storage was away for {self._patience_s:g} s",
                        got=words[0][:300],
                        fix="see that it can be reached, then search on by the study's name",
                    )
                ) from error
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        else:
            self._since = None
