"""The allocator's settings: a closed list, read by torch itself, in the worker's process and in no other."""

import json
import os
import subprocess
import sys

import pytest

from hybridlab.errors import DeviceError, RunError, SpecError
from hybridlab.runs.allocator import (
    ALLOCATOR_VARIABLE,
    allocator_environment,
    allocator_in_force,
    allocator_text,
)
from hybridlab.runs.pool import WorkerPool
from hybridlab.training.spec import make
from hybridlab.workflows.as_trained import allocator_in_effect, told
from hybridlab.workflows.launch import prepared

EVERY = {
    "expandable_segments": True,
    "max_split_size_mb": 128,
    "garbage_collection_threshold": 0.8,
    "roundup_power2_divisions": 4,
}
TEXT = (
    "expandable_segments:True,max_split_size_mb:128,garbage_collection_threshold:0.8,"
    "roundup_power2_divisions:4"
)
OLDER, OTHER = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"
_TORCH_SAYS = """
import json, os, sys, torch
read, change = torch._C._accelerator_getAllocatorSettings, torch._C._accelerator_setAllocatorSettings
texts, environments = (json.loads(text) for text in sys.argv[1:])
found = []
for environment in environments:  # torch reads once a process
    end, begin = os.pipe()
    if not os.fork():
        for name in [name for name in os.environ if "ALLOC_CONF" in name]:
            del os.environ[name]
        os.environ.update(environment)
        os.write(begin, read().encode())
        os._exit(0)
    os.close(begin)
    os.wait()
    found.append(os.read(end, 1000).decode())
found.append(read())
for text in texts:
    try:
        change(text)
        found.append("")
    except ValueError as error:
        found.append(str(error).splitlines()[0])
print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ALLOCATOR_VARIABLE, OLDER, OTHER):
        monkeypatch.delenv(name, raising=False)


def test_torch_itself_reads_what_a_worker_is_born_with_and_has_the_same_limits() -> None:
    spec = {"training": {"allocator": EVERY}}
    inherited = {OLDER: "max_split_size_mb:64"}
    wrong = {
        "max_split_size_mb": 19,
        "garbage_collection_threshold": 1.0,
        "roundup_power2_divisions": 3,
    }
    right = {
        "max_split_size_mb": 20,
        "garbage_collection_threshold": 0.001,
        "roundup_power2_divisions": 64,
        "expandable_segments": False,
    }
    texts = [f"{name}:{value}" for name, value in wrong.items()]
    texts += [f"{name}:{value}" for name, value in right.items()]
    environments = [
        {ALLOCATOR_VARIABLE: "max_split_size_mb:65"},
        {ALLOCATOR_VARIABLE: "max_split_size_mb:65", **inherited},
        {ALLOCATOR_VARIABLE: "max_split_size_mb:65", OTHER: "max_split_size_mb:66"},
        {OTHER: "max_split_size_mb:66", **inherited},
        {},
    ]
    born = os.environ | inherited | allocator_environment(spec, inherited)
    told = subprocess.run(
        [sys.executable, "-c", _TORCH_SAYS, json.dumps(texts), json.dumps(environments)],
        env=born,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(told.stdout)
    read, (in_force, *answers) = found[: len(environments)], found[len(environments) :]
    assert read == [allocator_in_force(one) for one in environments], "older names win"
    assert in_force == TEXT == allocator_in_force(born)
    assert all(answers[: len(wrong)]) and not any(answers[len(wrong) :]), answers
    for name, value in wrong.items():
        with pytest.raises(SpecError, match=name):
            make({"task": "parity", "allocator": {name: value}})
    for name, value in right.items():
        assert make({"task": "parity", "allocator": {name: value}}).allocator is not None


def test_only_the_settings_of_the_list_come_into_the_environment() -> None:
    assert allocator_text(EVERY) == TEXT
    hostile = {
        "backend": "cudaMallocAsync",
        "max_split_size_mb": "128,backend:cudaMallocAsync",
        "roundup_power2_divisions": True,
        "expandable_segments": 1,
    }
    assert allocator_text(hostile) == ""
    for spec in ({}, {"training": None}, {"training": {"allocator": None}}, {"allocator": EVERY}):
        assert allocator_environment(spec) == {}
    assert allocator_environment({"training": {"allocator": EVERY}}, {}) == {
        ALLOCATOR_VARIABLE: TEXT
    }


def test_a_run_with_settings_gets_a_worker_that_is_born_with_them(tmp_path) -> None:
    script = f"import os, sys; sys.stdin.read(); print(os.environ.get({ALLOCATOR_VARIABLE!r}))"
    pool = WorkerPool([sys.executable, "-c", script], threads=1, spares=1, log=tmp_path / "spares")
    pool.top_up()
    spare = pool._spares[0]
    born_with = allocator_environment({"training": {"allocator": EVERY}})
    mine = pool.take(1, tmp_path / "mine", born_with)
    plain = pool.take(1, tmp_path / "plain")
    assert plain is spare and mine is not spare
    for worker in (mine, plain):
        worker.communicate(timeout=60)
    assert (tmp_path / "mine").read_text().strip() == TEXT
    assert (tmp_path / "spares").read_text().strip() == "None"
    assert ALLOCATOR_VARIABLE not in os.environ


def test_settings_are_kept_in_the_record_and_wrong_ones_are_told_together() -> None:
    spec = make({"task": "parity", "allocator": EVERY})
    assert spec.allocator is not None and spec.allocator.text() == TEXT
    kept = json.loads(json.dumps(spec.model_dump(mode="json")))
    assert allocator_environment({"training": kept}, {}) == {ALLOCATOR_VARIABLE: TEXT}
    with pytest.raises(SpecError) as caught:
        make({"task": "parity", "allocator": {"backend": "x", "max_split_size_mb": "many"}})
    assert [problem.path for problem in caught.value.problems] == [
        "allocator.max_split_size_mb",
        "allocator.backend",
    ]
    assert "one of task" not in str(caught.value), (
        "keys of the settings are none of the allocator's"
    )
    with pytest.raises(SpecError, match="no setting is given"):
        make({"task": "parity", "allocator": {}})


def test_a_process_without_the_settings_refuses_to_train_and_a_profile_says_so(monkeypatch) -> None:
    spec = make({"task": "parity", "allocator": EVERY})
    with pytest.raises(RunError, match=f"start it with {ALLOCATOR_VARIABLE}={TEXT}"):
        allocator_in_effect(spec)
    (note,) = told(spec)
    assert "began without them" in note
    monkeypatch.setenv(ALLOCATOR_VARIABLE, TEXT)
    allocator_in_effect(spec)
    assert told(spec) == ()
    monkeypatch.setenv(OLDER, "max_split_size_mb:64")
    with pytest.raises(RunError):
        allocator_in_effect(spec)
    plain = make({"task": "parity"})
    allocator_in_effect(plain)
    assert told(plain) == ()


def test_a_cpu_has_no_allocator_to_set() -> None:
    text = "name: small\nwidth: 8\nnodes:\n  - {use: lstm}\n"
    with pytest.raises(DeviceError, match="allocator: a CPU has no allocator"):
        prepared(text, {"task": "parity", "device": "cpu", "allocator": EVERY})
