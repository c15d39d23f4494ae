"""Any order of events leaves every run in a state it can reach, and metrics only from lease holders."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from hybridlab.errors import RunError
from hybridlab.runs.leases import Lease, LeaseLostError
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import RESUMABLE, RunState
from hybridlab.runs.store import Store

ENDS = st.sampled_from([RunState.DONE, RunState.FAILED, RunState.CANCELLED, RunState.INTERRUPTED])


class Histories(RuleBasedStateMachine):
    runs = Bundle("runs")
    leases = Bundle("leases")

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(f"sqlite:///{Path(self.folder.name) / 'store.sqlite'}")
        self.state: dict[str, RunState] = {}
        self.token: dict[str, str] = {}
        self.points: dict[str, list[int]] = {}
        self.count = 0

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    @rule(target=runs)
    def create(self):
        run = self.store.create("train", "x", {}, home="here")
        self.state[run.id], self.points[run.id] = RunState.QUEUED, []
        return run.id

    @rule(target=leases, run=runs)
    def claim(self, run):
        self.count += 1
        token = f"token{self.count}"
        claimed = self.store.leases.claim(run, token, pid=1, birth="b")
        assert (claimed is not None) == (self.state.get(run) is RunState.QUEUED)
        if claimed is not None:
            self.state[run], self.token[run] = RunState.RUNNING, token
        return Lease(run, token)

    def holds(self, lease):
        running = self.state.get(lease.run_id) is RunState.RUNNING
        return running and self.token[lease.run_id] == lease.token

    @rule(lease=leases, step=st.integers(0, 9))
    def write(self, lease, step):
        if self.holds(lease):
            self.store.leases.beat(lease, [Point(step, "loss", 1.0, 0.0)], step=step)
            self.points[lease.run_id].append(step)
        else:
            with pytest.raises(LeaseLostError):
                self.store.leases.beat(lease, [Point(step, "loss", 1.0, 0.0)])

    @rule(lease=leases, step=st.integers(0, 9))
    def truncate(self, lease, step):
        if self.holds(lease):
            self.store.leases.truncate_metrics(lease, step)
            kept = [known for known in self.points[lease.run_id] if known <= step]
            self.points[lease.run_id] = kept
        else:
            with pytest.raises(LeaseLostError):
                self.store.leases.truncate_metrics(lease, step)

    @rule(lease=leases, state=ENDS)
    def finish(self, lease, state):
        held = self.holds(lease)
        assert self.store.leases.finish(lease, state) == held
        if held:
            self.state[lease.run_id] = state

    @rule(lease=leases)
    def unclaim(self, lease):
        if self.store.leases.unclaim(lease):
            assert self.holds(lease)
            self.state[lease.run_id] = RunState.QUEUED

    @rule(run=runs)
    def resume(self, run):
        if self.state.get(run) in RESUMABLE:
            self.store.resume(run)
            self.state[run] = RunState.QUEUED
        else:
            with pytest.raises(RunError):
                self.store.resume(run)

    @rule(run=runs)
    def cancel(self, run):
        if run not in self.state:
            with pytest.raises(RunError):
                self.store.request_cancel(run)
            return
        self.store.request_cancel(run)
        if self.state[run] is RunState.QUEUED:
            self.state[run] = RunState.CANCELLED

    @rule(run=runs)
    def delete(self, run):
        if self.state.get(run) in {None, RunState.RUNNING}:
            with pytest.raises(RunError):
                self.store.delete(run)
        else:
            self.store.delete(run)
            del self.state[run], self.points[run]

    @invariant()
    def the_store_tells_the_same(self):
        assert {run.id: run.state for run in self.store.list()} == self.state
        for run, steps in self.points.items():
            assert self.store.metrics(run).step == steps
        active = [run.id for run in self.store.active("here")]
        assert sorted(active) == sorted(run for run, state in self.state.items() if state.active)


Histories.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestHistories = Histories.TestCase
