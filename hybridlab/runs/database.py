"""The database under the store: its engine, its transactions, and plain sentences for what can go wrong with it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from hybridlab.errors import Problem, StoreError
from hybridlab.runs.home import HOME_VARIABLE, STORE_VARIABLE, unwritable
from hybridlab.runs.lock import locked
from hybridlab.runs.schema import VERSION, tables, version_table

BUSY_SECONDS = 10.0
_ADVISORY_LOCK = 7_450_001
_FULL = "database or disk is full", "no space left", "disk quota"


class StoreBusyError(StoreError):
    """Another program keeps the store locked."""


class StoreFullError(StoreError):
    """The disk that holds the store has no room left."""


class Database:
    """An engine whose transactions say whether they write, and whose errors are sentences.

    SQLite runs in WAL mode, so that readers never wait for writers. Safe to share between threads, not across a fork.
    """

    def __init__(self, url: str) -> None:
        """Open the database, make its tables when it is new, and check its version.

        Raises:
            StoreError: the URL cannot be understood, reached, written or read, or the store is from a newer version.
        """
        address = _address(url)
        self.engine = _engine(address)
        self.location = _shown(address)
        try:
            with explained(address):
                _prepare(self.engine)
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one state of the database."""
        with explained(self.engine.url), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sa.Connection]:
        """Give a connection inside one transaction that holds SQLite's write lock from its start.

        Committed work survives any process dying; with ``durable``, a power cut as well.
        """
        with explained(self.engine.url), self.engine.connect() as plain:
            connection = plain.execution_options(write=True, durable=durable)
            with connection.begin():
                yield connection


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        address = None
    known = {
        "sqlite": "sqlite",
        "postgresql": "postgresql+psycopg",
        "postgres": "postgresql+psycopg",
    }
    driver = known.get(address.drivername.split("+")[0]) if address is not None else None
    if address is None or driver is None or (driver == "sqlite" and not address.database):
        raise StoreError(
            Problem(
                STORE_VARIABLE,
                "the store's URL is not understood",
                "sqlite:////folder/store.sqlite or postgresql://user:password@host/database",
                "" if "@" in url else repr(url),
            )
        )
    return address.set(drivername=driver)


def _engine(address: URL) -> Engine:
    if address.drivername != "sqlite":
        try:
            return sa.create_engine(address, pool_pre_ping=True)
        except (ImportError, NoSuchModuleError):
            raise StoreError(
                Problem(
                    STORE_VARIABLE,
                    "a PostgreSQL store needs the psycopg package",
                    fix="run: pip install 'psycopg[binary]'",
                )
            ) from None
    folder = Path(str(address.database)).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    engine = sa.create_engine(address, connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if options.get("write"):
            level = "FULL" if options.get("durable") else "NORMAL"
            connection.exec_driver_sql(f"PRAGMA synchronous={level}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("write") else "BEGIN")

    return engine


def _prepare(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database)).absolute()
        if not path.exists() or path.stat().st_size == 0:
            try:
                with locked(path.with_name(path.name + ".lock")):
                    _set_wal(engine)
                    _make_tables(engine)
            except OSError as error:
                raise unwritable(path.parent, error) from None
            return
    _make_tables(engine)


def _set_wal(engine: Engine) -> None:
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _make_tables(engine: Engine) -> None:
    if sa.inspect(engine).has_table(version_table.name):
        with engine.connect() as connection:
            version = connection.scalar(sa.select(sa.func.max(version_table.c.version)))
    else:
        version = None
    if version is None:
        with (
            engine.connect().execution_options(write=True, durable=True) as connection,
            connection.begin(),
        ):
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            tables.create_all(connection)
            version = connection.scalar(sa.select(sa.func.max(version_table.c.version)))
            if version is None:
                connection.execute(version_table.insert().values(version=VERSION))
                version = VERSION
    if version > VERSION:
        raise StoreError(
            Problem(
                _shown(engine.url),
                "the store was made by a newer HybridLab",
                f"schema version {VERSION} or older",
                str(version),
                f"update HybridLab, or set {HOME_VARIABLE} to another folder",
            )
        )


def _shown(url: URL) -> str:
    """Return where a store is, fit to print: a path for SQLite, the URL without its password otherwise."""
    if url.drivername == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn what a database driver raises in a block into a ``StoreError`` with a plain sentence."""
    try:
        yield
    except DBAPIError as error:
        raise _explanation(url, error) from None
    except sqlite3.Error as error:
        raise _explanation(url, OperationalError("", None, error)) from None


def _explanation(url: URL, error: DBAPIError) -> StoreError:
    place, words = _shown(url), str(error.orig).strip()
    lower = words.lower()
    problem: dict[str, Any] = {
        "path": place,
        "got": words.splitlines()[0] if words else "no reason",
    }
    if any(text in lower for text in _FULL) or ("disk i/o error" in lower and _is_full(url)):
        return StoreFullError(
            Problem(place, "the disk that holds the store is full", fix="free some room on it")
        )
    if "locked" in lower or "lock timeout" in lower:
        return StoreBusyError(
            Problem(
                **problem,
                message=f"another program has kept the store locked for {BUSY_SECONDS:g} s",
                fix="close programs that have the file open, then try again",
            )
        )
    if "malformed" in lower or "not a database" in lower:
        return StoreError(
            Problem(
                **problem,
                message="the store is damaged",
                expected="an SQLite database",
                fix="put a backup in its place, or move it away to begin a new one (run folders stay)",
            )
        )
    if "readonly" in lower or "unable to open" in lower:
        return StoreError(
            Problem(
                **problem,
                message="the store cannot be opened for writing",
                fix=f"make the file and its folder writable, or set {HOME_VARIABLE} to another folder",
            )
        )
    if url.drivername != "sqlite" and isinstance(error, OperationalError):
        return StoreError(
            Problem(
                **problem,
                message="the store's database server cannot be reached",
                fix=f"check {STORE_VARIABLE} and that the server runs",
            )
        )
    return StoreError(Problem(**problem, message="the store's database refused"))


def _is_full(url: URL) -> bool:
    try:
        return shutil.disk_usage(Path(str(url.database)).absolute().parent).free < 1 << 20
    except OSError:
        return False
