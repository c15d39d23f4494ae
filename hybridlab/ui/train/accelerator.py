"""An accelerator's memory in a training: pools for groups of components, torch's allocator, and what was not used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from hybridlab.hardware.meters.allocator_words import NO_ACCELERATOR
from hybridlab.runs.slots import accelerators
from hybridlab.runs.store import open_store
from hybridlab.training.allocator_spec import AllocatorSpec
from hybridlab.training.pool_spec import PoolSpec
from hybridlab.ui import shell
from hybridlab.ui.forms import parameters
from hybridlab.ui.schema import fields
from hybridlab.ui.train.rows import begun, took, written
from hybridlab.units import format_bytes
from hybridlab.validation import problems_from

_COLUMNS = ("name", "match", "use", "kind", "from", "to", "backward")
_KINDS = ("input", "token_mixer", "channel_mixer", "norm", "merge", "router", "head")
_TITLES = {
    "max_split_size_mb": "Largest block to split",
    "garbage_collection_threshold": "Give free blocks back above (share)",
    "roundup_power2_divisions": "Sizes between powers of two",
}
"""What settings are called that torch names for itself."""
_MOST = 20
Change = Callable[[str, Any], None]


def accelerator_memory(changed: Mapping[str, Any], change: Change) -> None:
    """Show the pools and the allocator of the settings, to be changed; say what is not used, or why nobody knows."""
    pools = [dict(pool) for pool in changed.get("pools") or ()]
    allocator = dict(changed.get("allocator") or {})
    there = f" ({len(pools)} pool{'s' if len(pools) > 1 else ''})" if pools else ""
    with st.expander(
        f"Memory of an accelerator{there}", icon=":material/memory_alt:", key="train.accelerator"
    ):
        if accelerators():
            with shell.told():
                st.caption(shell.escaped(fragmentation()))
        else:
            st.info(
                f"Fragmentation is not measured here: {NO_ACCELERATOR.reason}. A training on this machine refuses "
                "the settings below; they are for one with an accelerator.",
                icon=":material/do_not_disturb_on:",
            )
        st.caption(
            "**Pools:** components of a row take their memory from a pool of their own; the first row that fits takes "
            "a component. What is learnt stays the same. What a pool keeps free serves its own components alone, so "
            "more may be reserved: compare with a run without."
        )
        _pools(pools, change)
        st.caption(
            "**Allocator:** how torch hands out the device's memory, in this training's process alone. What is empty "
            "or off is as torch has it."
        )
        _allocator(allocator, change)


def fragmentation() -> str:
    """Say how much of a device's memory the newest training on an accelerator held reserved, and in no tensor.

    Raises:
        StoreError: the store cannot be read.
    """
    runs = {run.id: run.name for run in open_store().list(kind="train", limit=_MOST)}
    found = open_store().latest_metrics(list(runs))
    for run_id, name in runs.items():
        told = found.get(run_id, {})
        reserved, used = told.get("device_reserved_bytes"), told.get("device_bytes")
        if reserved is not None and used is not None:
            return (
                f"Fragmentation (reserved − allocated) at the last reading of {name}, measured: "
                f"{format_bytes(reserved - used)} of {format_bytes(reserved)} reserved."
            )
    return (
        "Fragmentation (reserved − allocated) was not measured yet: a training on the accelerator has it among its "
        "readings."
    )


def _pools(now: list[dict[str, Any]], change: Change) -> None:
    key, rows = begun("train.pools", now)
    edited = st.data_editor(
        pool_table(rows),
        key=key,
        num_rows="dynamic",
        placeholder="–",
        hide_index=True,
        column_config=_configured(),
        alt="Table of memory pools",
    )
    taken = pools_of(edited)
    if taken != now:
        change("pools", taken)
        took("train.pools", taken)
        st.rerun()  # what stands above the table tells of its rows
    for place, pool in enumerate(taken):
        try:
            PoolSpec.model_validate(pool)
        except ValidationError as error:
            shell.problems(problems_from(error, f"pools[{place}]"))


def pool_table(rows: Any) -> pd.DataFrame:
    """Return pools of the settings as rows, both ends of their depth in a column each."""
    whole = {"match": "*", "depth": (0.0, 1.0), "backward": False}
    filled = [{**whole, **row} for row in rows]
    ends = {name: [row["depth"][at] for row in filled] for at, name in enumerate(("from", "to"))}
    frame = pd.DataFrame({name: [row.get(name) for row in filled] for name in _COLUMNS} | ends)
    texts, numbers = ("name", "match", "use", "kind"), ("from", "to")
    types = {**dict.fromkeys(texts, "object"), **dict.fromkeys(numbers, "float64")}
    return frame.astype({**types, "backward": "bool"})[list(_COLUMNS)]


def pools_of(edited: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows that have a name as settings, only what differs from the defaults."""
    found = []
    for row in edited.to_dict("records"):
        given = written(row, ())
        depth = [float(given.pop("from", 0.0)), float(given.pop("to", 1.0))]
        pool = {k: v for k, v in given.items() if v != PoolSpec.model_fields[k].default}
        if pool.get("name"):
            found.append(pool if depth == [0.0, 1.0] else {**pool, "depth": depth})
    return found


def _allocator(now: dict[str, Any], change: Change) -> None:
    def set_one(name: str, value: Any) -> None:
        given = {**now, name: value}
        change("allocator", {k: v for k, v in given.items() if v not in (None, False)} or None)

    known = fields(AllocatorSpec.model_json_schema())
    named = [replace(field, title=_TITLES.get(field.name, "")) for field in known]
    parameters(named, now, "train.allocator", set_one, columns=2)


def _configured() -> dict[str, Any]:
    config, known = st.column_config, PoolSpec.model_fields

    def told(name: str) -> str:
        return str(known[name].description)

    return {
        "name": config.TextColumn("Name", width=88, required=True, max_chars=40, help=told("name")),
        "match": config.TextColumn("Components", width=105, default="*", help=told("match")),
        "use": config.TextColumn("Of this name", width=112, help=told("use")),
        "kind": config.SelectboxColumn(
            "Of this family", width=115, options=list(_KINDS), help=told("kind")
        ),
        "from": config.NumberColumn(
            "From depth", width=98, default=0.0, min_value=0.0, max_value=1.0, help=told("depth")
        ),
        "to": config.NumberColumn(
            "To depth", width=85, default=1.0, min_value=0.0, max_value=1.0, help=told("depth")
        ),
        "backward": config.CheckboxColumn(
            "Backward", width=90, default=False, help=told("backward")
        ),
    }
