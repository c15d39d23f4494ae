"""Who works on a study: workers that show they live, and a turn that only one of them has at a time.

Optuna's own heartbeat covers neither a journal, nor ask and tell, nor a death between the two. Here every worker raises
a counter in a table beside the study (``FILE.leases`` for a file, a table of ours in the same PostgreSQL database). A
worker of this machine is dead as soon as its process is; any other one once its counter has stood still for a while by
the clock of whoever looks, in time that the looking itself covered: an outage of the storage blames nobody, nor does a
clock that is set.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from hybridlab.errors import Problem, StoreError
from hybridlab.runs import processes

BEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0
BUSY_SECONDS = 30.0
_TURNS = 7_450_002
_tables = sa.MetaData()
_workers = sa.Table(
    "hybridlab_workers",
    _tables,
    sa.Column("token", sa.String(32), primary_key=True),
    sa.Column("study", sa.Text, nullable=False),
    sa.Column("machine", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("birth", sa.Text, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Worker:
    """One that works on a study: where it is, which process, and the count it keeps raising."""

    token: str
    machine: str
    host: str
    pid: int
    birth: str
    beat: int


@dataclass
class _Seen:
    beat: int = -1
    quiet_seconds: float = 0.0


class Leases:
    """One worker's side of the table; safe to use from several threads, not across a fork."""

    def __init__(
        self, place: str | Path, study: str, *, silent_seconds: float = SILENT_SECONDS
    ) -> None:
        """Open the table beside a study's storage: a database URL or a journal file.

        Raises:
            StoreError: it cannot be opened.
        """
        self.study, self.token = study, secrets.token_hex(8)
        self._engine = _engine(place)
        self._silent_seconds = silent_seconds
        self._seen: dict[str, _Seen] = {}
        self._looked: float | None = None
        self._beat = 0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        with _told(self._engine), self._writing() as connection:
            _tables.create_all(connection)

    def join(self) -> None:
        """Enter the table and keep beating in a thread until ``leave``.

        Raises:
            StoreError: the table cannot be written.
        """
        self.beat()
        self._thread = threading.Thread(target=self._pulse, name="search-pulse", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Stop beating and leave the table; a storage that is away just now keeps the row."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(StoreError), _told(self._engine), self._writing() as connection:
            connection.execute(_workers.delete().where(_workers.c.token == self.token))
        self._engine.dispose()

    def beat(self) -> None:
        """Raise this worker's count; a row that is gone is written anew.

        Raises:
            StoreError: the table cannot be written.
        """
        self._beat += 1
        with _told(self._engine), self._writing() as connection:
            mine = _workers.c.token == self.token
            change = _workers.update().where(mine).values(beat=self._beat)
            if not connection.execute(change).rowcount:
                pid = os.getpid()
                row = Worker(
                    self.token,
                    machine(),
                    socket.gethostname(),
                    pid,
                    processes.birth(pid) or "",
                    self._beat,
                )
                connection.execute(_workers.insert().values(study=self.study, **vars(row)))

    def workers(self) -> dict[str, Worker]:
        """Return who has entered this study's table, by token, dead ones too.

        Raises:
            StoreError: the table cannot be read.
        """
        columns = [_workers.c[name] for name in Worker.__dataclass_fields__]
        query = sa.select(*columns).where(_workers.c.study == self.study)
        with _told(self._engine), self._engine.connect() as connection:
            return {row.token: Worker(*row) for row in connection.execute(query)}

    def lapsed(self, tokens: set[str]) -> set[str]:
        """Return which of some workers are gone: dead on this machine, or silent for too long.

        Raises:
            StoreError: the table cannot be read.
        """
        known = self.workers()
        now = time.monotonic()
        # Time in which nobody looked, as in an outage, is not held against anyone.
        gap = 0.0 if self._looked is None else min(now - self._looked, BEAT_SECONDS)
        self._looked = now
        gone = set()
        for token in tokens - {self.token}:
            worker = known.get(token)
            seen = self._seen.setdefault(token, _Seen(worker.beat if worker else 0))
            if worker is not None and worker.beat != seen.beat:
                seen.beat, seen.quiet_seconds = worker.beat, 0.0
            else:
                seen.quiet_seconds += gap
            if seen.quiet_seconds >= self._silent_seconds or (
                worker is not None
                and worker.machine == machine()
                and not processes.is_alive(worker.pid, worker.birth)
            ):
                gone.add(token)
        return gone

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep every other worker's turn waiting for the length of a block; a process that dies gives it back.

        Raises:
            StoreError: the table cannot be locked.
        """
        with _told(self._engine), self._writing():
            yield

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Give a connection that holds the one lock for writing."""
        with self._engine.connect() as plain:
            connection = plain.execution_options(write=True)
            connection.begin()
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_TURNS)))
            yield connection
            connection.commit()

    def _pulse(self) -> None:
        while not self._ending.wait(BEAT_SECONDS):
            with contextlib.suppress(StoreError):  # the next beat tries again
                self.beat()


@functools.cache
def machine() -> str:
    """Return a name for the processes that see each other: the running system and its space of process numbers."""
    birth = processes.birth(os.getpid()) or ""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{socket.gethostname()} {birth.partition('-')[0] if space else ''} {space}".strip()


def driver_url(url: str) -> str:
    """Return a database URL with the driver that this program brings for PostgreSQL."""
    kind, mark, rest = url.partition("://")
    plain = kind in ("postgres", "postgresql")
    return f"postgresql+psycopg{mark}{rest}" if plain else url


def _engine(place: str | Path) -> sa.Engine:
    text = str(place)
    if "://" in text and not text.startswith("sqlite"):
        return sa.create_engine(driver_url(text), pool_pre_ping=True)
    database = make_url(text).database if "://" in text else text
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=f"{database}.leases"),
        connect_args={"timeout": BUSY_SECONDS},
        poolclass=sa.NullPool,  # a file that was replaced or was away is opened anew
    )

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=OFF")  # nothing here outlives a power cut

    @sa.event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _told(engine: sa.Engine) -> Iterator[None]:
    """Turn what a database driver raises in a block into a ``StoreError``."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        reason: Any = getattr(error, "orig", None) or error
        words = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        shown = engine.url.render_as_string(hide_password=True)
        raise StoreError(
            Problem(shown, "the table of a search's workers cannot be used", got=words)
        ) from None
