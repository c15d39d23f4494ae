"""Metrics of runs: a long table in, columns out."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from hybridlab.runs.schema import metrics_table, runs_table


class Point(NamedTuple):
    """One value of one metric; ``seconds`` is the time the run had been running for."""

    step: int
    name: str
    value: float
    seconds: float


@dataclass(frozen=True)
class Columns:
    """Metrics as columns of equal length, in the order they happened, ready for ``numpy.asarray``.

    ``last`` is what to ask for as ``after`` next time; it never goes back. When ``truncations`` is not what it was,
    points were taken back (a run resumed from an earlier checkpoint): read again with ``after=0``.
    ``seconds`` is running time since the start, pauses left out.
    """

    seq: list[int]
    step: list[int]
    name: list[str]
    value: list[float]
    seconds: list[float]
    last: int
    truncations: int

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.seq)

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Return the steps and values of one metric."""
        chosen = [index for index, given in enumerate(self.name) if given == name]
        return [self.step[index] for index in chosen], [self.value[index] for index in chosen]


def insert(connection: sa.Connection, run_id: str, last_seq: int, points: Sequence[Point]) -> None:
    """Insert points after the last sequence number given out; NaN is stored as null, on every database."""
    connection.execute(
        metrics_table.insert(),
        [
            {
                "run_id": run_id,
                "seq": seq,
                "step": point.step,
                "name": point.name,
                "value": None if math.isnan(point.value) else point.value,
                "seconds": point.seconds,
            }
            for seq, point in enumerate(points, last_seq + 1)
        ],
    )


def read(
    connection: sa.Connection, run_id: str, after: int, names: Collection[str] | None
) -> Columns | None:
    """Return the points after a sequence number, or None when there is no such run."""
    state = connection.execute(
        sa.select(runs_table.c.last_seq, runs_table.c.truncations).where(runs_table.c.id == run_id)
    ).one_or_none()
    if state is None:
        return None
    table = metrics_table.c
    query = (
        sa.select(table.seq, table.step, table.name, table.value, table.seconds)
        .where(table.run_id == run_id, table.seq > after)
        .order_by(table.seq)
    )
    if names is not None:
        query = query.where(table.name.in_(sorted(names)))
    rows = connection.execute(query).all()
    seq, step, name, value, seconds = (
        (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    )
    floats = [math.nan if item is None else item for item in value]
    last = max(after, state.last_seq, *seq[-1:])
    return Columns(seq, step, name, floats, seconds, last, state.truncations)


def latest(connection: sa.Connection, run_ids: Collection[str]) -> dict[str, dict[str, float]]:
    """Return the last value of every metric of some runs."""
    table = metrics_table.c
    newest = (
        sa.select(table.run_id, sa.func.max(table.seq).label("seq"))
        .where(table.run_id.in_(sorted(run_ids)))
        .group_by(table.run_id, table.name)
        .subquery()
    )
    rows = connection.execute(
        sa.select(table.run_id, table.name, table.value).join(
            newest, sa.and_(table.run_id == newest.c.run_id, table.seq == newest.c.seq)
        )
    )
    found: dict[str, dict[str, float]] = {run_id: {} for run_id in run_ids}
    for run_id, name, value in rows:
        found[run_id][name] = math.nan if value is None else value
    return found


def remove_after(connection: sa.Connection, run_id: str, step: int) -> float:
    """Delete the points after a step and return the running time of the last that is left, in seconds."""
    table = metrics_table.c
    connection.execute(metrics_table.delete().where(table.run_id == run_id, table.step > step))
    return running_seconds(connection, run_id)


def running_seconds(connection: sa.Connection, run_id: str) -> float:
    """Return the running time of a run's last point, in seconds; 0 when it has none."""
    last = (
        sa.select(metrics_table.c.seconds)
        .where(metrics_table.c.run_id == run_id)
        .order_by(metrics_table.c.seq.desc())
        .limit(1)
    )
    return float(connection.scalar(last) or 0.0)
