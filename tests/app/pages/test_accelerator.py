"""The Train page's memory of an accelerator: pools as rows, the allocator's settings, and what was not used."""

from __future__ import annotations

from typing import Any

import pytest

from hybridlab.runs.leases import Lease
from hybridlab.runs.metrics import Point
from hybridlab.runs.slots import accelerators
from hybridlab.training.spec import make
from hybridlab.ui.train import accelerator
from hybridlab.ui.train.accelerator import fragmentation, pool_table, pools_of
from hybridlab.ui.train.usage import pool_words
from tests.app.held import held, in_session, put_in_session

POOLS = [
    {"name": "mixers", "kind": "token_mixer", "backward": True},
    {"name": "late", "match": "stage.*", "depth": [0.5, 1.0]},
]


def test_rows_are_pools() -> None:
    assert pools_of(pool_table(POOLS)) == POOLS and pools_of(pool_table([])) == []
    table = pool_table(POOLS)
    table.loc[0, ["kind", "from"]] = None, 0.25
    assert pools_of(table)[0] == {"name": "mixers", "backward": True, "depth": [0.25, 1.0]}
    assert make({"task": "parity", "pools": pools_of(table)}).pools[0].depth == (0.25, 1.0)


def test_settings_of_the_allocator_are_set_and_taken_back(opened: Any) -> None:
    name = "train.allocator.expandable_segments"
    opened.give(held(opened.at.toggle, name), True)
    kept = in_session(opened.at, "settings.parity")
    assert kept["allocator"] == {"expandable_segments": True}
    opened.give(held(opened.at.selectbox, "train.allocator.roundup_power2_divisions"), 8)
    kept = in_session(opened.at, "settings.parity")["allocator"]
    assert kept == {"expandable_segments": True, "roundup_power2_divisions": 8}
    opened.give(held(opened.at.toggle, name), False)
    kept = in_session(opened.at, "settings.parity")["allocator"]
    assert kept == {"roundup_power2_divisions": 8}
    put_in_session(opened.at, "settings.parity", {"allocator": {"expandable_segments": True}})
    opened.at.run()
    opened.give(held(opened.at.toggle, name), False)
    assert in_session(opened.at, "settings.parity")["allocator"] is None


@pytest.mark.skipif(bool(accelerators()), reason="there is an accelerator, which has all this")
def test_without_an_accelerator_it_is_said_and_a_start_is_refused(opened: Any) -> None:
    assert any("Fragmentation is not measured here" in info.value for info in opened.at.info)
    put_in_session(opened.at, "settings.parity", {"pools": [POOLS[0]], "device": "cpu"})
    opened.at.run()
    opened.until(lambda at: any("a CPU has no memory pools" in e.value for e in at.error))
    assert opened.button("Start training").disabled
    (label,) = [e.label for e in opened.at.expander if "accelerator" in e.label]
    assert "1 pool" in label


def test_a_row_that_is_no_pool_is_told(opened: Any) -> None:
    wrong = [{"name": "late", "depth": [0.9, 0.1]}]
    put_in_session(opened.at, "settings.parity", {"pools": wrong})
    opened.at.run()
    said = [error.value.replace("\\", "") for error in opened.at.error]
    assert any("depth goes from 0.9 down to 0.1" in text for text in said)


def test_what_was_reserved_and_not_allocated_is_that_of_the_newest_run(
    runs: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "was not measured yet" in fragmentation()
    run = runs.running("on a device")
    values = {"device_bytes": 3.0 * 2**20, "device_reserved_bytes": 4.0 * 2**20}
    points = [Point(5, name, value, 5.0) for name, value in values.items()]
    runs.store.leases.beat(Lease(run.id, "token"), points, step=5, steps=10)
    runs.running("on the processor")
    said = "at the last reading of on a device, measured: 1 MiB of 4 MiB reserved"
    assert said in fragmentation()
    monkeypatch.setattr(accelerator, "accelerators", lambda: ("cuda:0",))
    opened.at.run()
    assert said in opened.words().replace("\\", "")
    assert not any("not measured here" in info.value for info in opened.at.info)


def test_what_pools_of_a_run_held_is_said() -> None:
    used = {"reserved_bytes": 2**22, "allocated_bytes": 2**20, "unused_bytes": 3 * 2**20}
    unused = dict.fromkeys(used)
    some = [
        {"name": "a", "components": ["x"], **used},
        {"name": "b", "components": ["y", "z"], **unused},
    ]
    assert pool_words(some) == [
        "Pool a, 1 component: 3 MiB of 4 MiB reserved were not allocated at the end (measured).",
        "Pool b, 2 components: never used.",
    ]
