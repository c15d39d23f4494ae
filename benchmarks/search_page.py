"""What the page server takes for an action on the Search page with a study of five thousand trials.

    python benchmarks/search_page.py
    python benchmarks/search_page.py --trials 1000 --repeats 20

The study is of the closed form with a random sampler, so its trials are there in seconds. The visitor is a real session
without a browser (``app_session``), and counted is the processor time of the server alone, read from its own clock. The
line: at most 60 ms an action, the median of each kind: choosing a point, another view, a switch of the front.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app_latency import CpuClock, server, settle
from app_session import Session

from hybridlab.search.spec import search_of
from hybridlab.search.state import StudyState
from hybridlab.ui.search.opened import look
from hybridlab.workflows.search import run_search

RESULTS = Path(__file__).parent.parent / "artifacts" / "benchmarks"
ACTION_MS = 60.0
STUDY = "big"
SEARCH = "name: big\nclosed_form: {}\nsampler: random\nlimits: {peak_bytes: 400 MiB}\n"
VIEWS = ("progress", "choices", "trials", "front")


def study(trials: int) -> StudyState:
    """Make the study, and return how it stands."""
    run_search(search_of(SEARCH), trials=trials, study=STUDY)
    return look(STUDY)


async def actions(
    url: str, clock: CpuClock, repeats: int
) -> tuple[dict[str, list[float]], list[str]]:
    """Return the server's milliseconds of each kind of action, and what went wrong."""
    session = Session(url)
    opened = await session.open("search", f"study={STUDY}")
    errors = list(opened.errors)
    found: dict[str, list[float]] = {}

    async def act(kind: str, key: str, **value: Any) -> None:
        before = clock.ms()
        result = await session.change(key, **value)
        found.setdefault(kind, []).append(clock.ms() - before)
        errors.extend(result.errors)
        await settle(session)

    await settle(session)
    for turn in range(repeats + 2):
        box = [key for key in session.options if key.startswith(f"search.{STUDY}.point")][-1]
        labels = session.options[box]
        await act("choosing a point", box, string_value=labels[turn % len(labels)])
        await act("dominated, on or off", f"search.{STUDY}.beaten", bool_value=bool(turn % 2))
        for view in VIEWS:
            await act(f"to {view}", f"search.{STUDY}.view", string_array_value=[view])
    await session.close()
    return {kind: times[2:] for kind, times in found.items()}, errors  # the first ones warm caches


def measured(options: argparse.Namespace) -> Mapping[str, Any]:
    """Return all figures."""
    with tempfile.TemporaryDirectory(prefix="hybridlab-search-page-") as folder:
        os.environ["HYBRIDLAB_HOME"] = folder
        os.environ.pop("HYBRIDLAB_STORE", None)
        state = study(options.trials)
        count = len(state.front)
        with server(Path(folder)) as (process, url):
            clock = CpuClock(process.pid)
            times, errors = asyncio.run(actions(url, clock, options.repeats))
    medians = {kind: statistics.median(some) for kind, some in times.items()}
    return {"trials": options.trials, "front": count, "cpu_ms": medians, "errors": errors}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS / "search_page.json")
    options = parser.parse_args()
    found = measured(options)
    print(f"{found['trials']:,} trials, {found['front']} of them on the front; server CPU, medians")
    for kind, ms in found["cpu_ms"].items():
        print(f"{kind:24}{ms:8.1f} ms{'' if ms <= ACTION_MS else '   <-- not met'}")
    for error in found["errors"]:
        print(f"error: {error}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(bool(found["errors"]) or any(ms > ACTION_MS for ms in found["cpu_ms"].values()))


if __name__ == "__main__":
    sys.exit(main())
