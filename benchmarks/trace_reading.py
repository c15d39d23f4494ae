"""CPU time and memory of reading one large trace, beside the programs that read such traces, and json + pandas.

    python benchmarks/trace_reading.py
    python benchmarks/trace_reading.py --megabytes 40 --output /tmp/reading.json
    pip install --no-deps --target /tmp/peers traceinsight && python benchmarks/trace_reading.py --peers /tmp/peers

A small training is profiled with stacks, shapes and memory, and its steps are repeated, moved in time and with ids of
their own, until the text is long enough. Each reader then runs in a process of its own, one after the other; its time
is the CPU time of the whole process, imports included, its memory the largest resident set. The lines: at most 2 CPU
seconds and 450 MB, at most 1/8 of torch-tb-profiler's CPU time and 1/2 of its memory in the same run.

traceinsight is HolisticTraceAnalysis under a new name, and calls its package ``hta`` too: it is looked for in
``--peers`` alone. TraceLens (https://github.com/AMD-AGI/TraceLens) is not on PyPI, where its name is another project's;
a copy of its repository in ``--peers`` is measured as well. A reader that is not there, or fails, has a row saying so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
MEGABYTES = 150
MOST_SECONDS, MOST_BYTES = 2.0, 450e6
MOST_TIME_SHARE, MOST_MEMORY_SHARE = 1 / 8, 1 / 2

_MEASURE = """
import json, resource, sys
result = read(sys.argv[1])
own, children = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
seconds = sum(u.ru_utime + u.ru_stime for u in (own, children))
# ru_maxrss survives exec: it would show the memory of the process that started this one.
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print(json.dumps([seconds, peak * 1024, result]))
"""
READERS = {
    "hybridlab": """
def read(path):
    from hybridlab.profiling.reading.reader import read_trace
    from hybridlab.profiling.summary import summarise
    found = summarise(read_trace(path))
    return [len(found.steps.steps), len(found.operators), len(found.components), len(found.memory)]
""",
    "hybridlab, columns only": """
def read(path):
    from hybridlab.profiling.reading.reader import read_trace
    return [len(read_trace(path).events)]
""",
    "torch-tb-profiler": """
import logging, warnings
logging.disable(logging.CRITICAL); warnings.simplefilter("ignore")
def read(path):
    from torch_tb_profiler.profiler.data import RunProfileData
    from torch_tb_profiler.profiler.module_op import aggegate_module_view
    found = RunProfileData.parse("worker", "1", path, "/tmp")
    modules = aggegate_module_view(found.tid2tree, found.events) or []
    peaks = found.memory_snapshot.get_peak_memory() if found.memory_snapshot else {}
    return [len(found.steps_names), len(found.op_list_groupby_name), len(modules), len(peaks)]
""",
    "HolisticTraceAnalysis, loading": """
import logging, warnings
logging.disable(logging.CRITICAL); warnings.simplefilter("ignore")
def read(path):
    from hta.trace_analysis import TraceAnalysis
    found = TraceAnalysis(trace_files={0: path}, trace_dir="", include_last_profiler_step=True)
    return [len(found.t.get_trace(0))]
""",
    "traceinsight, loading": """
import logging, warnings
logging.disable(logging.CRITICAL); warnings.simplefilter("ignore")
import hta
if not hta.__file__.startswith(sys.argv[2]):
    raise ModuleNotFoundError("not in --peers")
def read(path):
    from hta.trace_analysis import TraceAnalysis
    found = TraceAnalysis(trace_files={0: path}, trace_dir="", include_last_profiler_step=True)
    return [len(found.t.get_trace(0))]
""",
    "TraceLens, loading its tree": """
import logging, warnings
logging.disable(logging.CRITICAL); warnings.simplefilter("ignore")
def read(path):
    from TraceLens import TreePerfAnalyzer
    return [len(TreePerfAnalyzer.from_file(path).tree.events)]
""",
    "json + pandas, operators": """
def read(path):
    import json
    import pandas as pd
    with open(path, "rb") as file:
        events = pd.DataFrame(json.load(file)["traceEvents"])
    table = events[events.cat == "cpu_op"].groupby("name").dur.agg(["count", "sum"])
    return [len(table)]
""",
}
FROM_PEERS = ("traceinsight, loading", "TraceLens, loading its tree")


@dataclass(frozen=True)
class Row:
    """One reader in a process of its own; ``found`` counts what it found, or says why it failed."""

    reader: str
    cpu_seconds: float
    peak_bytes: float
    found: Any


def profiled(folder: Path) -> Path:
    """Profile two steps of a small training, as anybody would, and return the trace."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    model = nn.Sequential(nn.Linear(32, 64), nn.TransformerEncoder(layer, 6), nn.Linear(64, 10))
    optimiser = torch.optim.AdamW(model.parameters())
    path = folder / "small.json"
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU],
        schedule=torch.profiler.schedule(wait=1, warmup=1, active=2, repeat=1),
        record_shapes=True,
        profile_memory=True,
        with_stack=True,
        on_trace_ready=lambda done: done.export_chrome_trace(str(path)),
    ) as profiler:
        for _ in range(5):
            loss = model(torch.randn(4, 16, 32)).square().mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            profiler.step()
    return path


def lengthened(small: Path, path: Path, size: int) -> tuple[int, int]:
    """Write the events of a trace again and again, each time later and with ids of their own; return events, bytes."""
    trace = json.loads(small.read_text())
    events = trace.pop("traceEvents")
    timed = [
        e
        for e in events
        if (e.get("ph") in ("X", "s", "f") and e.get("cat") != "Trace") or e["name"] == "[memory]"
    ]
    rest = [e for e in events if e.get("ph") == "M"]
    start = min(e["ts"] for e in timed)
    length = max(e["ts"] + e.get("dur", 0) for e in timed) - start + 100
    count = written = 0
    with path.open("w") as file:
        file.write(json.dumps(trace)[:-1] + ', "traceEvents": [\n')
        text = ",\n".join(json.dumps(e) for e in rest)
        written += file.write(text)
        count += len(rest)
        copy = 0
        while written < size:
            lines = [json.dumps(_moved(event, copy, length)) for event in timed]
            written += file.write(",\n" + ",\n".join(lines))
            count += len(timed)
            copy += 1
        file.write("\n]}\n")
    return count, path.stat().st_size


def _moved(event: dict[str, Any], copy: int, length: float) -> dict[str, Any]:
    moved = event | {"ts": round(event["ts"] + copy * length, 3)}
    if "id" in event:
        moved["id"] = event["id"] + copy * 1_000_000
    if event["name"].startswith("ProfilerStep#"):
        moved["name"] = f"ProfilerStep#{int(event['name'].split('#')[1]) + 2 * copy}"
    args = dict(event.get("args", {}))
    for name in ("External id", "Sequence number", "Python id", "Python parent id"):
        if isinstance(args.get(name), int):
            args[name] += copy * 1_000_000
    return moved | {"args": args} if args else moved


def measured(reader: str, path: Path, peers: Path) -> Row:
    """Run one reader in a process of its own; ``peers`` is a folder of packages that are not installed."""
    first = "import sys\n"
    if reader in FROM_PEERS:
        first += "sys.path.insert(0, sys.argv[2])\n"
    done = subprocess.run(
        [sys.executable, "-c", first + READERS[reader] + _MEASURE, str(path), str(peers.resolve())],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return Row(reader, float("nan"), float("nan"), done.stderr.strip().splitlines()[-1][:120])
    seconds, peak, found = json.loads(done.stdout.strip().splitlines()[-1])
    return Row(reader, seconds, peak, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=MEGABYTES)
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    parser.add_argument("--peers", type=Path, default=Path("peers"))
    parser.add_argument("--output", type=Path, default=RESULTS / "trace_reading.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "long.json"
        events, size = lengthened(profiled(folder), path, int(options.megabytes * 1e6))
        print(f"{size / 1e6:.0f} MB, {events:,} events")
        rows = []
        for reader in options.readers:
            row = measured(reader, path, options.peers)
            rows.append(row)
            print(
                f"{reader:32} {row.cpu_seconds:7.2f} CPU-s {row.peak_bytes / 1e6:7.0f} MB  {row.found}",
                flush=True,
            )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "benchmark": "trace_reading",
        "bytes": size,
        "events": events,
        "rows": [asdict(row) for row in rows],
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {options.output}")
    judge({row.reader: row for row in rows}, options.megabytes)


def judge(rows: dict[str, Row], megabytes: float) -> None:
    """Hold the figures against the lines; the absolute ones are for the size they were set at."""
    mine, theirs = rows.get("hybridlab"), rows.get("torch-tb-profiler")
    if mine is None:
        return
    missed = []
    if megabytes >= MEGABYTES and not mine.cpu_seconds <= MOST_SECONDS:
        missed.append(f"{mine.cpu_seconds:.2f} CPU-s, the line is {MOST_SECONDS:g}")
    if megabytes >= MEGABYTES and not mine.peak_bytes <= MOST_BYTES:
        missed.append(f"{mine.peak_bytes / 1e6:.0f} MB, the line is {MOST_BYTES / 1e6:.0f}")
    if theirs is not None:
        time, memory = mine.cpu_seconds / theirs.cpu_seconds, mine.peak_bytes / theirs.peak_bytes
        print(f"of torch-tb-profiler: 1/{1 / time:.1f} of the time, {memory:.2f} of the memory")
        if not time <= MOST_TIME_SHARE:
            missed.append(f"{time:.3f} of torch-tb-profiler's time, the line is 1/8")
        if not memory <= MOST_MEMORY_SHARE:
            missed.append(f"{memory:.2f} of torch-tb-profiler's memory, the line is 1/2")
    if missed:
        raise SystemExit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
