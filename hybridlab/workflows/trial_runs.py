"""Trials as runs: each is queued like any training, is seen in Runs, and is gone on with after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hybridlab.architecture.document import dump
from hybridlab.errors import RunError
from hybridlab.runs.home import home_id
from hybridlab.runs.launcher import cancel, ensure_supervisor, resume, submit
from hybridlab.runs.record import ACTIVE, Run, RunState
from hybridlab.runs.slots import core_count
from hybridlab.runs.store import open_store
from hybridlab.search.again import SEED
from hybridlab.search.claims import MOST_ATTEMPTS
from hybridlab.search.landscape import Outcome
from hybridlab.search.record import ARCHITECTURE, RUN, TRAINING
from hybridlab.search.space import Codes
from hybridlab.search.trained import TrainedLandscape
from hybridlab.workflows.trial import KIND
from hybridlab.workflows.trial_times import turns_for

if TYPE_CHECKING:
    from optuna.trial import Trial


class RunSeats:
    """Seats for so many trials at once, each a run of this home; the supervisor starts them as slots are free."""

    def __init__(
        self,
        study: str,
        landscape: TrainedLandscape,
        seats: int,
        *,
        threads: int | None = None,
        rungs: tuple[int, ...] = (),
        eta: int = 3,
        seed: int = 0,
    ) -> None:
        """Run a study's trials; ``rungs`` are the steps after which one is compared with the others.

        Each takes so many ``threads``; without a number the cores of this machine are shared among the seats.
        """
        self._threads = threads or max(1, core_count() // seats)
        self._study, self._landscape, self._seats = study, landscape, seats
        self._rungs, self._eta, self._seed = rungs, eta, seed
        self._turns = turns_for(landscape.training.device) if landscape.timed else None
        self._runs: dict[int, tuple[str, Codes]] = {}
        self._ended: dict[int, Outcome] = {}

    @property
    def room(self) -> int:
        """How many more may be queued; none while a trial is timed, since finding what to try would disturb it."""
        if self._turns is not None and self._runs and self._turns.wanted:
            return 0
        return self._seats - len(self._runs)

    def begin(self, trial: Trial, row_P: Codes) -> None:
        """Queue a trial's run, or find the one that was queued before; one that was stopped goes on."""
        landscape = self._landscape
        reason = landscape.beyond(row_P)
        if reason:
            self._runs[trial.number], self._ended[trial.number] = (
                ("", row_P),
                Outcome(reason=reason),
            )
            return
        run = self._known(trial)
        if run is None:
            text = dump(landscape.architecture(landscape.space.design(row_P)))
            trial.set_user_attr(ARCHITECTURE, text)
            decided = landscape.decided(row_P)
            if decided:
                trial.set_user_attr(TRAINING, decided)
            run = submit(
                KIND,
                self._name(trial.number),
                self._record(trial.number, text, decided, trial.user_attrs.get(SEED)),
                threads=self._threads,
                device=landscape.training.device,
            )
            trial.set_user_attr(RUN, {"id": run.id, "home": home_id()})
        elif run.state in (RunState.CANCELLED, RunState.INTERRUPTED):
            resume(run.id)
        self._runs[trial.number] = run.id, row_P

    def ended(self) -> dict[int, Outcome]:
        """Look at the runs; one that died is put into the queue again, not too often."""
        if any(number not in self._ended for number in self._runs):
            ensure_supervisor()
        for number, (run_id, row) in self._runs.items():
            if number not in self._ended and (outcome := self._outcome(run_id, row)) is not None:
                self._ended[number] = outcome
        return dict(self._ended)

    def clear(self, number: int) -> None:
        """Forget a trial."""
        self._runs.pop(number, None)
        self._ended.pop(number, None)

    def stop(self) -> None:
        """Ask every run to stop at its next step; its checkpoint stays."""
        for number, (run_id, _) in self._runs.items():
            if number not in self._ended:
                cancel(run_id)

    def _outcome(self, run_id: str, row_P: Codes) -> Outcome | None:
        """Return what a run gave; None while it is on its way."""
        try:
            run = open_store().get(run_id)
        except RunError:
            return Outcome(reason="its run was deleted")
        if run.state in ACTIVE:
            return None
        if run.state is RunState.INTERRUPTED and run.attempt < MOST_ATTEMPTS:
            resume(run_id)
            return None
        if run.state is RunState.DONE:
            result = dict(run.result or {})
            if after := result.get("stopped_after"):
                words = f"stopped after {after:,} steps: others were better there"
                return Outcome(reason=words, stopped=True)
            told = (dict(result.get(name) or {}) for name in ("metrics", "energy", "times"))
            return self._landscape.finished(row_P, *told)
        why = {
            RunState.CANCELLED: "its run was cancelled",
            RunState.INTERRUPTED: f"its worker died {run.attempt} times",
        }
        return Outcome(reason=run.error or why.get(run.state, "its run failed"))

    def _known(self, trial: Trial) -> Run | None:
        """Return the run of a trial that was begun before, also where its beginner died before noting it."""
        noted = dict(trial.user_attrs.get(RUN) or {})
        store = open_store()
        if noted.get("home") == home_id():
            try:
                return store.get(str(noted["id"]))
            except RunError:
                return None  # deleted: it is run anew
        name = self._name(trial.number)
        for run in store.list(kind=KIND, text=name, home=home_id()):
            if run.name == name and dict(run.spec.get("search") or {}).get("trial") == trial.number:
                trial.set_user_attr(RUN, {"id": run.id, "home": home_id()})
                return run
        return None

    def _name(self, number: int) -> str:
        return f"{self._study} trial {number}"

    def _record(
        self, number: int, text: str, decided: Mapping[str, Any], seed: int | None = None
    ) -> dict[str, Any]:
        """Return what a run is to do; a design that is tried again with a ``seed`` is compared with nobody."""
        training = {**self._landscape.training.model_dump(mode="json"), **decided}
        if self._rungs:  # validation falls on every rung, which are its multiples
            training["eval_every"] = self._rungs[0]
        return {
            "architecture": text,
            "training": {**training, "seed": self._seed if seed is None else int(seed)},
            "preset": None,
            "search": {
                "study": self._study,
                "trial": number,
                "metric": self._landscape.metric,
                "eta": self._eta,
                "rungs": list(self._rungs) if seed is None else [],
                "timed": list(self._landscape.timed),
            },
        }
