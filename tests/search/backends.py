"""Every storage a study can have, for tests: a journal, SQLite, and PostgreSQL where there is one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

BACKENDS = ("journal", "sqlite", "postgresql")
POSTGRES_VARIABLE = "HYBRIDLAB_TEST_POSTGRES"


@contextmanager
def backend(kind: str, folder: Path) -> Iterator[str]:
    """Give the place of a storage that is new and nobody else's."""
    if kind == "journal":
        yield str(folder / "study.journal")
        return
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'study.sqlite'}"
        return
    server = os.environ.get(POSTGRES_VARIABLE)
    if not server:
        pytest.skip(f"no PostgreSQL to test against: {POSTGRES_VARIABLE} holds no URL")
    schema = f"test_{secrets.token_hex(6)}"
    engine = sa.create_engine(sa.make_url(server).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema))
    try:
        yield f"{server}{'&' if '?' in server else '?'}options=-csearch_path%3D{schema}"
    finally:
        with engine.begin() as connection:
            connection.execute(sa.schema.DropSchema(schema, cascade=True))
        engine.dispose()
