"""Tables of the store. A change to them raises ``VERSION`` and says how an older store becomes a newer one."""

from __future__ import annotations

import sqlalchemy as sa

VERSION = 1

tables = sa.MetaData()

version_table = sa.Table(
    "schema_version", tables, sa.Column("version", sa.Integer, primary_key=True)
)

runs_table = sa.Table(
    "runs",
    tables,
    sa.Column("id", sa.String(12), primary_key=True),
    sa.Column("turn", sa.BigInteger, nullable=False),
    sa.Column("home", sa.String(32), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("owner", sa.Text, nullable=False, default=""),
    sa.Column("parent", sa.String(12)),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("started", sa.Double),
    sa.Column("ended", sa.Double),
    sa.Column("threads", sa.Integer, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("granted", sa.Text, nullable=False, default=""),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False, default=0),
    sa.Column("steps", sa.BigInteger, nullable=False, default=0),
    sa.Column("result", sa.Text),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("lease", sa.String(32), nullable=False, default=""),
    sa.Column("heartbeat", sa.BigInteger, nullable=False, default=0),
    sa.Column("pid", sa.BigInteger),
    sa.Column("birth", sa.Text, nullable=False, default=""),
    sa.Column("last_seq", sa.BigInteger, nullable=False, default=0),
    sa.Column("truncations", sa.Integer, nullable=False, default=0),
    sa.Index("runs_by_state", "state", "turn"),
)

metrics_table = sa.Table(
    "metrics",
    tables,
    sa.Column("run_id", sa.String(12), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("seconds", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
