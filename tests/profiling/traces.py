"""Traces to test with: small ones made here, and the real ones of other people, where they lie beside the project."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]
_FOLDERS = [parent / "shared" / "traces" for parent in TOP.parents]
REAL = next((folder for folder in _FOLDERS if folder.is_dir()), None)
ABSENT = "the real traces are not beside the project, in ../shared/traces"
needs_real = pytest.mark.skipif(REAL is None, reason=ABSENT)


def real(name: str) -> Path:
    """Return the path of a real trace, by the beginning of its name."""
    if REAL is None:
        pytest.skip(ABSENT)
    (found,) = REAL.glob(f"{name}*")
    return found


def complete(
    cat: str, name: str, ts: float, dur: float, tid: int | str = 1, pid: int | str = 10, **args: Any
) -> dict[str, Any]:
    """Return one event with a duration."""
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "ts": ts,
        "dur": dur,
        "pid": pid,
        "tid": tid,
        "args": args,
    }


def written(path: Path, events: list[Any], **fields: Any) -> Path:
    """Write a trace as Kineto does, packed where the name says so."""
    text = json.dumps({"schemaVersion": 1, **fields, "traceEvents": events, "traceName": "t"})
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.write(text.encode())
    return path


def launch(
    correlation: int, ts: float, dur: float, start: float, took: float, **more: Any
) -> list[Any]:
    """Return the call that launches a kernel, and the kernel."""
    name, stream = more.pop("kernel", "gemm"), more.pop("stream", 7)
    cat = more.pop("cat", "kernel")
    call = complete("cuda_runtime", "cudaLaunchKernel", ts, dur, correlation=correlation, **more)
    ids = {"device": 0, "stream": stream, "correlation": correlation}
    sizes = {"blocks per SM": 0.5, "est. achieved occupancy %": 40}
    return [call, complete(cat, name, start, took, tid=stream, pid=0, **ids, **sizes)]


def training() -> list[Any]:
    """Return two steps of a training on one device: two modules forward, their backward on a second thread, SGD."""
    events: list[Any] = []
    for step in (0, 1):
        t = 1_000_000.0 + 1_000 * step
        c = 100 * (step + 1)
        events += [
            complete("user_annotation", f"ProfilerStep#{step + 4}", t, 900),
            complete("gpu_user_annotation", f"ProfilerStep#{step + 4}", t + 30, 900, tid=7, pid=0),
            complete("python_function", "nn.Module: Net_0", t + 10, 200, **{"Python module id": 0}),
            complete(
                "python_function", "nn.Module: Linear_0", t + 20, 80, **{"Python module id": 0}
            ),
            complete("cpu_op", "aten::linear", t + 25, 70),
            complete("cpu_op", "aten::addmm", t + 30, 60, **{"Sequence number": c}),
            *launch(c, t + 40, 10, t + 60, 100),
            complete(
                "python_function", "nn.Module: Linear_1", t + 110, 80, **{"Python module id": 1}
            ),
            complete("cpu_op", "aten::addmm", t + 120, 60, **{"Sequence number": c + 1}),
            *launch(c + 1, t + 130, 10, t + 160, 50),
            complete(
                "cpu_op",
                "autograd::engine::evaluate_function: AddmmBackward0",
                t + 300,
                100,
                tid=2,
                **{"Sequence number": c + 1, "Fwd thread id": 1},
            ),
            complete("cpu_op", "AddmmBackward0", t + 310, 80, tid=2),
            *launch(c + 2, t + 320, 10, t + 340, 30, tid=2),
            complete(
                "cpu_op",
                "autograd::engine::evaluate_function: torch::autograd::AccumulateGrad",
                t + 410,
                40,
                tid=2,
            ),
            *launch(c + 3, t + 420, 10, t + 440, 20, tid=2),
            complete(
                "cpu_op",
                "autograd::engine::evaluate_function: AddmmBackward0",
                t + 500,
                100,
                tid=2,
            ),
            complete("cpu_op", "AddmmBackward0", t + 510, 80, tid=2),
            *launch(c + 4, t + 520, 10, t + 540, 200, tid=2),
            {
                "ph": "s",
                "cat": "fwdbwd",
                "name": "fwdbwd",
                "id": c,
                "pid": 10,
                "tid": 1,
                "ts": t + 30,
            },
            {
                "ph": "f",
                "cat": "fwdbwd",
                "name": "fwdbwd",
                "id": c,
                "pid": 10,
                "tid": 2,
                "ts": t + 510,
                "bp": "e",
            },
            complete("user_annotation", "nccl:all_reduce", t + 640, 20, tid=2),
            *launch(
                c + 5, t + 645, 5, t + 650, 100, tid=2, kernel="ncclDevKernel_AllReduce", stream=9
            ),
            complete("user_annotation", "Optimizer.step#SGD.step", t + 700, 100),
            complete("cpu_op", "aten::_foreach_add_", t + 710, 80),
            *launch(c + 6, t + 720, 10, t + 760, 40, kernel="add"),
            complete("user_annotation", "enumerate(DataLoader)#It.__next__", t + 850, 40),
            memory(t + 30, 512, 4096 + 512),
            memory(t + 600, -512, 4096),
        ]
    return events


def memory(ts: float, size: int, total: int) -> dict[str, Any]:
    """Return one memory event of device 0."""
    args = {"Bytes": size, "Addr": 64, "Device Id": 0, "Device Type": 1}
    args |= {"Total Allocated": total, "Total Reserved": 8192}
    return {
        "ph": "i",
        "s": "t",
        "cat": "cpu_instant_event",
        "name": "[memory]",
        "ts": ts,
        "pid": 10,
        "tid": 1,
        "args": args,
    }
