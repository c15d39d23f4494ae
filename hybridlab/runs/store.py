"""The store of runs: every change of state is one compare-and-set in one transaction."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from hybridlab.errors import Problem, RunError
from hybridlab.runs import metrics as points_table
from hybridlab.runs.database import Database
from hybridlab.runs.home import store_url
from hybridlab.runs.leases import Leases
from hybridlab.runs.metrics import Columns
from hybridlab.runs.record import ACTIVE, RESUMABLE, Run, RunState, clean_name, new_id, spec_text
from hybridlab.runs.rows import RUN_COLUMNS, change_one, run_of
from hybridlab.runs.schema import VERSION, metrics_table, runs_table


class Store:
    """Runs and their metrics in one database; safe to share between threads, not across a fork.

    What users and pages do is here; what only the supervisor and workers write is in ``leases``.
    """

    def __init__(self, url: str) -> None:
        """Open the store, making it when it is new.

        Raises:
            StoreError: it cannot be opened, written or understood; the sentence says which and what helps.
        """
        self.url = url
        self._database = Database(url)
        self.leases = Leases(self._database)

    def close(self) -> None:
        """Close all connections; the store opens new ones when it is used again."""
        self._database.engine.dispose()

    @property
    def location(self) -> str:
        """Say where the store is, without a password."""
        return self._database.location

    @property
    def schema_version(self) -> int:
        """Return the version of the tables this program reads and writes."""
        return VERSION

    def create(
        self,
        kind: str,
        name: str,
        spec: Mapping[str, Any],
        *,
        threads: int = 1,
        owner: str = "",
        device: str = "auto",
        parent: str | None = None,
        home: str = "",
        run_id: str | None = None,
    ) -> Run:
        """Add a run to the end of the queue and return it.

        Raises:
            RunError: the settings are not plain JSON.
            StoreError: the store cannot be written.
        """
        with self._database.writing(durable=True) as connection:
            row = connection.execute(
                runs_table.insert()
                .values(
                    id=run_id or new_id(),
                    turn=_next_turn(connection),
                    home=home,
                    kind=kind,
                    name=clean_name(name, fallback=kind),
                    state=RunState.QUEUED,
                    owner=clean_name(owner, fallback=""),
                    parent=parent,
                    created=time.time(),
                    threads=threads,
                    device=device,
                    spec=spec_text(spec),
                )
                .returning(*RUN_COLUMNS)
            ).one()
            return run_of(row)

    def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            RunError: there is no such run.
        """
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(*RUN_COLUMNS).where(runs_table.c.id == run_id)
            ).one_or_none()
        if row is None:
            raise _unknown(run_id)
        return run_of(row)

    def active(self, home: str) -> list[Run]:
        """Return the runs of a home that are queued or running, in the order of their turns."""
        column = runs_table.c
        query = (
            sa.select(*RUN_COLUMNS)
            .where(column.home == home, column.state.in_(sorted(ACTIVE)))
            .order_by(column.turn, column.id)
        )
        with self._database.reading() as connection:
            return [run_of(row) for row in connection.execute(query)]

    def count_by_state(self) -> dict[RunState, int]:
        """Return how many runs there are in each state."""
        state = runs_table.c.state
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(state, sa.func.count()).group_by(state)).all()
        return dict.fromkeys(RunState, 0) | {RunState(name): count for name, count in rows}

    def request_cancel(self, run_id: str) -> Run:
        """Cancel a queued run at once, ask a running one to stop, leave an ended one as it is; return the run.

        Raises:
            RunError: there is no such run.
        """
        where = runs_table.update().where(runs_table.c.id == run_id)
        with self._database.writing(durable=True) as connection:
            queued = where.where(runs_table.c.state == RunState.QUEUED)
            running = where.where(runs_table.c.state == RunState.RUNNING)
            change_one(
                connection,
                queued.values(state=RunState.CANCELLED, ended=time.time(), cancel_requested=True),
            )
            change_one(connection, running.values(cancel_requested=True))
        return self.get(run_id)

    def resume(self, run_id: str) -> Run:
        """Put a cancelled, failed or interrupted run back at the end of the queue and return it.

        Raises:
            RunError: there is no such run, or it is active or done.
        """
        with self._database.writing(durable=True) as connection:
            run = change_one(
                connection,
                runs_table.update()
                .where(runs_table.c.id == run_id, runs_table.c.state.in_(sorted(RESUMABLE)))
                .values(
                    state=RunState.QUEUED,
                    turn=_next_turn(connection),
                    cancel_requested=False,
                    error="",
                    ended=None,
                    result=None,
                    heartbeat=0,
                ),
            )
        if run is not None:
            return run
        run = self.get(run_id)
        raise RunError(
            Problem(
                f"run {run_id}",
                "this run cannot be resumed",
                "a run that was interrupted, cancelled or failed",
                run.state.lower(),
            )
        )

    def delete(self, run_id: str, beside: Callable[[], None] = lambda: None) -> None:
        """Delete a run and its metrics; ``beside`` runs inside the transaction and may still stop it by raising.

        Raises:
            RunError: there is no such run, or it is running.
        """
        column = runs_table.c
        with self._database.writing(durable=True) as connection:
            gone = connection.execute(
                runs_table.delete().where(column.id == run_id, column.state != RunState.RUNNING)
            ).rowcount
            if gone:
                connection.execute(metrics_table.delete().where(metrics_table.c.run_id == run_id))
                beside()
                return
        self.get(run_id)
        raise RunError(
            Problem(
                f"run {run_id}",
                "a running run cannot be deleted",
                fix="cancel it first, then delete",
            )
        )

    def metrics(self, run_id: str, after: int = 0, names: Collection[str] | None = None) -> Columns:
        """Return a run's metrics that came after a sequence number, all of them or some names only.

        Raises:
            RunError: there is no such run.
        """
        with self._database.reading() as connection:
            columns = points_table.read(connection, run_id, after, names)
        if columns is None:
            raise _unknown(run_id)
        return columns

    def latest_metrics(self, run_ids: Collection[str]) -> dict[str, dict[str, float]]:
        """Return the last value of every metric of some runs: ``{run: {metric: value}}``."""
        with self._database.reading() as connection:
            return points_table.latest(connection, run_ids)

    def running_seconds(self, run_id: str) -> float:
        """Return the running time at a run's last point, in seconds."""
        with self._database.reading() as connection:
            return points_table.running_seconds(connection, run_id)

    def list(
        self,
        *,
        states: Collection[RunState] | None = None,
        kind: str | None = None,
        owner: str | None = None,
        parent: str | None = None,
        text: str = "",
        home: str | None = None,
        limit: int | None = None,
        oldest_first: bool = False,
    ) -> list[Run]:
        """Return the runs that match everything given, newest first; ``text`` is looked for in name and id."""
        column = runs_table.c
        query = sa.select(*RUN_COLUMNS).order_by(column.id if oldest_first else column.id.desc())
        for given, name in ((kind, "kind"), (owner, "owner"), (parent, "parent"), (home, "home")):
            if given is not None:
                query = query.where(column[name] == given)
        if states is not None:
            query = query.where(column.state.in_(sorted(states)))
        if text:
            query = query.where(
                column.name.icontains(text, autoescape=True)
                | column.id.startswith(text.lower(), autoescape=True)
            )
        with self._database.reading() as connection:
            return [run_of(row) for row in connection.execute(query.limit(limit))]


def _next_turn(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.max(runs_table.c.turn))) or 0) + 1


def _unknown(run_id: str) -> RunError:
    return RunError(
        Problem(f"run {run_id!r}"[:80], "there is no such run", fix="`hybridlab runs` lists them")
    )


_open: dict[tuple[str, int], tuple[Store, tuple[int, int] | None]] = {}
_opening = threading.Lock()


def open_store(url: str | None = None) -> Store:
    """Return the store of this home, or of a URL; one per process and URL, opened anew when its file was replaced.

    Raises:
        StoreError: it cannot be opened, written or understood; the sentence says which and what helps.
    """
    url = url or store_url()
    key = (url, os.getpid())
    with _opening:
        known = _open.get(key)
        if known is not None and known[1] == _file_identity(url):
            return known[0]
        if known is not None:
            known[0].close()
        store = Store(url)
        _open[key] = (store, _file_identity(url))
        return store


def _file_identity(url: str) -> tuple[int, int] | None:
    address = make_url(url)
    if not address.drivername.startswith("sqlite") or not address.database:
        return None
    try:
        status = Path(address.database).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
