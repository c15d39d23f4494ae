"""From rows of the runs table to records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from hybridlab.runs.record import Run, RunState
from hybridlab.runs.schema import runs_table

RUN_COLUMNS = tuple(runs_table.c[name] for name in Run.__dataclass_fields__)


def run_of(row: Sequence[Any]) -> Run:
    """Return the record of a row that was selected by ``RUN_COLUMNS``."""
    fields = dict(zip(Run.__dataclass_fields__, row, strict=True))
    fields["state"] = RunState(fields["state"])
    fields["spec"] = json.loads(fields["spec"])
    fields["result"] = None if fields["result"] is None else json.loads(fields["result"])
    return Run(**fields)


def change_one(connection: sa.Connection, change: sa.Update) -> Run | None:
    """Change one run and return it as it then stands; None when no row met the conditions."""
    row = connection.execute(change.returning(*RUN_COLUMNS)).one_or_none()
    return None if row is None else run_of(row)
