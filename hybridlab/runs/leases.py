"""What only the supervisor and a run's worker write, each change on condition that the lease still holds."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from hybridlab.errors import Problem, RunError
from hybridlab.runs import metrics as points_table
from hybridlab.runs.database import Database
from hybridlab.runs.metrics import Point
from hybridlab.runs.record import Run, RunState, json_ready
from hybridlab.runs.rows import RUN_COLUMNS, change_one, run_of
from hybridlab.runs.schema import runs_table


class LeaseLostError(RunError):
    """The run was taken away from this worker: it is cancelled, interrupted, deleted, or another worker has it."""


class Lease(NamedTuple):
    """A worker's right to write a run: the run's id and the token it was started with."""

    run_id: str
    token: str


class Leases:
    """The supervisor's and the workers' side of the store."""

    def __init__(self, database: Database) -> None:
        """Write through a database."""
        self._database = database

    def claim(
        self, run_id: str, token: str, *, pid: int, birth: str, granted: str = ""
    ) -> Run | None:
        """Give a queued run to a worker process; None when it is not queued any more."""
        now = time.time()
        with self._database.writing(durable=True) as connection:
            return change_one(
                connection,
                runs_table.update()
                .where(runs_table.c.id == run_id, runs_table.c.state == RunState.QUEUED)
                .values(
                    state=RunState.RUNNING,
                    lease=token,
                    pid=pid,
                    birth=birth,
                    granted=granted,
                    heartbeat=0,
                    attempt=runs_table.c.attempt + 1,
                    started=sa.func.coalesce(runs_table.c.started, now),
                ),
            )

    def unclaim(self, lease: Lease) -> bool:
        """Put a run whose worker never began back where it was in the queue."""
        with self._database.writing(durable=True) as connection:
            change = _held(lease).where(runs_table.c.heartbeat == 0)
            return (
                change_one(
                    connection,
                    change.values(state=RunState.QUEUED, attempt=runs_table.c.attempt - 1),
                )
                is not None
            )

    def beat(
        self,
        lease: Lease,
        points: Sequence[Point] = (),
        *,
        step: int | None = None,
        steps: int | None = None,
        alive: bool = True,
    ) -> Run:
        """Write points and progress, and with ``alive`` raise the heartbeat; return the run as it then stands.

        Raises:
            LeaseLostError: the run is no longer this worker's; nothing was written.
        """
        column = runs_table.c
        values: dict[str, Any] = {"last_seq": column.last_seq + len(points)}
        values |= {"heartbeat": column.heartbeat + 1} if alive else {}
        values |= {"step": step} if step is not None else {}
        values |= {"steps": steps} if steps is not None else {}
        with self._database.writing() as connection:
            row = connection.execute(
                _held(lease).values(values).returning(*RUN_COLUMNS, column.last_seq)
            ).one_or_none()
            if row is None:
                raise _lost(lease)
            if points:
                points_table.insert(connection, lease.run_id, row.last_seq - len(points), points)
        return run_of(row[:-1])

    def finish(
        self,
        lease: Lease,
        state: RunState,
        *,
        result: Mapping[str, Any] | None = None,
        error: str = "",
        heartbeat: int | None = None,
    ) -> bool:
        """End a running run; with ``heartbeat``, only if its worker has not beaten since. Say whether it was ended."""
        change = _held(lease)
        if heartbeat is not None:
            change = change.where(runs_table.c.heartbeat == heartbeat)
        values: dict[str, Any] = {"state": state, "ended": time.time(), "granted": ""}
        values |= {"error": error.encode("utf-8", "replace").decode().replace("\0", " ")}
        if result is not None:
            values["result"] = json.dumps(json_ready(result), ensure_ascii=False)
        with self._database.writing(durable=True) as connection:
            return change_one(connection, change.values(values)) is not None

    def truncate_metrics(self, lease: Lease, after_step: int) -> float:
        """Take back all points after a step; return the running time of the last that is left, in seconds.

        Raises:
            LeaseLostError: the run is no longer this worker's; nothing was taken back.
        """
        values = {"truncations": runs_table.c.truncations + 1, "step": after_step}
        with self._database.writing() as connection:
            if change_one(connection, _held(lease).values(values)) is None:
                raise _lost(lease)
            return points_table.remove_after(connection, lease.run_id, after_step)


def _held(lease: Lease) -> sa.Update:
    column = runs_table.c
    return runs_table.update().where(
        column.id == lease.run_id,
        column.lease == lease.token,
        column.state == RunState.RUNNING,
    )


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(
        Problem(f"run {lease.run_id}", "this worker has lost the run; it was ended or given on")
    )
