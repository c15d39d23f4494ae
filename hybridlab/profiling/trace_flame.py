"""A trace as nested bars, one lane a thread or stream: what a timeline draws, and how much of it at once.

A trace has hundreds of thousands of events and a screen some thousand columns. Where many short bars stand so close
that nobody could tell them apart, one bar stands for them and says how many they are and how long they took together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hybridlab.profiling.analysis import naming
from hybridlab.profiling.analysis.groundwork import Groundwork
from hybridlab.profiling.analysis.host import ROOT, depths
from hybridlab.profiling.reading.trace import Floats, Ints, Kind, Mask, Trace

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 200_000
"""Bars that a report keeps."""
_BINS = 4_000
_LETTERS = 240
KINDS = ("operator", "module", "range", "runtime", "kernel", "copy", "several")
_KIND_OF = {
    Kind.OPERATOR: 0,
    Kind.PYTHON: 1,
    Kind.ANNOTATION: 2,
    Kind.RUNTIME: 3,
    Kind.KERNEL: 4,
    Kind.MEMCPY: 5,
    Kind.MEMSET: 5,
}
_SEVERAL = KINDS.index("several")


@dataclass(frozen=True, eq=False)
class Flame:
    """The bars of a trace.

    Attributes:
        bars: a row a bar: lane, depth, name, component, kind, start_us, dur_us, events, busy_us. A bar of kind
            ``several`` stands for short ones that are not kept one by one; ``busy_us`` is their time.
        lanes: a row a lane: lane, title, place (host or device), depth, events.
        events: how many events the bars stand for.
        single: how many of them have a bar of their own.
        frames: Python frames that are no modules, and left out.
    """

    bars: pd.DataFrame
    lanes: pd.DataFrame
    events: int
    single: int
    frames: int


def flame(ground: Groundwork, most: int = MOST_ROWS) -> Flame:
    """Lay the events of a trace out as nested bars, at most about ``most`` of them."""
    import pandas as pd

    trace, tree, launched = ground.trace, ground.tree, ground.launched
    events = trace.events
    module = trace.named(naming.is_module)[tree.rows]
    member = (tree.kind != Kind.PYTHON) | module
    up = np.where(member, tree.nearest(member, own=False), ROOT)
    nodes = np.flatnonzero(member)
    depth = depths(up)[nodes]
    lanes, lane, device_lane = _lanes(ground, nodes, depth)
    rows = np.concatenate((tree.rows[nodes], launched.rows))
    component = np.concatenate((ground.shared.of_host[nodes], ground.shared.of_device))
    kind_of = np.zeros(len(Kind), dtype=np.int8)
    for kind, at in _KIND_OF.items():
        kind_of[kind] = at
    names, name = _texts([trace.names[i] for i in range(len(trace.names))], events.name[rows])
    paths, path = _texts([row.path for row in ground.shared.rows], component)
    bars = pd.DataFrame(
        {
            "lane": np.concatenate((lane, device_lane)).astype(np.int16),
            "depth": np.concatenate((depth, np.zeros(len(launched.rows), dtype=np.int64))).astype(
                np.int16
            ),
            "name": pd.Categorical.from_codes(name, categories=pd.Index(names)),
            "component": pd.Categorical.from_codes(path, categories=pd.Index(paths)),
            "kind": pd.Categorical.from_codes(
                kind_of[events.kind[rows]], categories=pd.Index(KINDS)
            ),
            "start_us": events.start_us[rows],
            "dur_us": events.dur_us[rows],
        }
    )
    bars["events"] = np.ones(len(bars), dtype=np.int32)
    bars["busy_us"] = bars["dur_us"]
    total = len(bars)
    if total > most:
        short = np.ones(total, dtype=np.bool_)
        short[np.argpartition(-events.dur_us[rows], most)[:most]] = False
        bars = _merged(bars, short, float(events.start_us.min()), _bin_us(trace, most))
    bars = bars.sort_values(["lane", "start_us", "depth"], ignore_index=True)
    frames = int(np.count_nonzero(~member))
    return Flame(bars, lanes, total, int((bars["kind"] != "several").sum()), frames)


def window(bars: pd.DataFrame, start_us: float, end_us: float, most: int = 2_000) -> pd.DataFrame:
    """Return what is seen of bars between two moments, cut to them: at most about ``most`` rows.

    Bars too short to be told apart are merged into bars of kind ``several``; the shortest first, as many as need be.
    """
    ends = bars["start_us"] + bars["dur_us"]
    seen = bars[(bars["start_us"] < end_us) & (ends > start_us)]
    width = (end_us - start_us) / 1_000
    length = seen["dur_us"].to_numpy()
    found = _merged(seen, length < width, start_us, width)
    while len(found) > most:
        width *= 1.6
        found = _merged(seen, length < width, start_us, width)
    starts = np.maximum(found["start_us"], start_us)
    found["dur_us"] = np.minimum(found["start_us"] + found["dur_us"], end_us) - starts
    found["start_us"] = starts
    return found.sort_values(["lane", "depth", "start_us"], ignore_index=True)


def _merged(bars: pd.DataFrame, short: Mask, origin_us: float, bin_us: float) -> pd.DataFrame:
    """Merge the short ones among bars by lane, depth and piece of time."""
    import pandas as pd

    duration = bars["dur_us"].to_numpy()
    kept, rest = bars[~short].copy(), bars[short]
    if not len(rest):
        return kept
    start = rest["start_us"].to_numpy()
    place = np.maximum((start - origin_us) / bin_us, 0).astype(np.int64)
    lane, depth = rest["lane"].to_numpy(np.int64), rest["depth"].to_numpy(np.int64)
    _, first, group = np.unique(
        (place << 32) + (lane << 16) + depth, return_index=True, return_inverse=True
    )
    count = len(first)
    begins, ends = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(begins, group, start)
    np.maximum.at(ends, group, start + duration[short])
    together = rest.iloc[first].copy()
    events = np.bincount(group, rest["events"].to_numpy(), count).astype(np.int32)
    together["start_us"], together["dur_us"] = begins, ends - begins
    together["events"] = events
    together["busy_us"] = np.bincount(group, rest["busy_us"].to_numpy(), count)
    kinds = together["kind"].cat.codes.to_numpy().copy()
    kinds[events > 1] = _SEVERAL
    together["kind"] = pd.Categorical.from_codes(kinds, categories=pd.Index(KINDS))
    return pd.concat((kept, together))


def _lanes(ground: Groundwork, nodes: Ints, depth: Ints) -> tuple[pd.DataFrame, Ints, Ints]:
    """Number threads, the one with most events first, then streams; return their table and the lane of each event."""
    import pandas as pd

    trace, tree, launched = ground.trace, ground.tree, ground.launched
    threads, group, counts = np.unique(tree.thread[nodes], return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    lane = rank[group]
    table = [
        (
            at,
            _thread_title(trace, int(threads[i])),
            "host",
            int(depth[lane == at].max()) + 1,
            counts[i],
        )
        for at, i in enumerate(order)
    ]
    events = trace.events
    device, stream = events.device[launched.rows], events.stream[launched.rows]
    pairs = sorted(set(zip(device.tolist(), stream.tolist(), strict=True)))
    device_lane = np.zeros(len(launched.rows), dtype=np.int64)
    for number, (d, s) in enumerate(pairs, len(order)):
        mine = (device == d) & (stream == s)
        device_lane[mine] = number
        table.append((number, f"device {d}, stream {s}", "device", 1, int(mine.sum())))
    columns = ["lane", "title", "place", "depth", "events"]
    return pd.DataFrame(table, columns=columns), lane, device_lane


def _thread_title(trace: Trace, thread: int) -> str:
    known = trace.threads[thread]
    name = known.name.strip()
    title = f"thread {known.tid}"
    return f"{title} ({name})" if name and str(known.tid) not in name else title


def _texts(texts: list[str], ids: Ints) -> tuple[list[str], Ints]:
    """Return the different texts among those that ids name, shortened, and the position of each id's text."""
    used, inverse = np.unique(ids, return_inverse=True)
    numbers: dict[str, int] = {}
    of = np.array(
        [numbers.setdefault(_short(texts[i]), len(numbers)) for i in used], dtype=np.int32
    )
    return list(numbers), of[inverse] if len(used) else np.zeros(0, dtype=np.int32)


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def _bin_us(trace: Trace, most: int) -> float:
    events = trace.events
    span = float(events.end_us.max() - events.start_us.min())
    return max(span / min(_BINS, most), 1e-3)


def thinned(time: Floats, values: Floats, pieces: int = 1_000) -> Ints:
    """Return positions to keep of a curve so that its highest and lowest value in each piece of time stay."""
    if len(time) <= 3 * pieces:
        return np.arange(len(time))
    span = float(time[-1] - time[0])
    piece = np.minimum(((time - time[0]) / max(span, 1e-9) * pieces).astype(np.int64), pieces - 1)
    order = np.lexsort((values, piece))
    edges = np.flatnonzero(np.diff(piece[order], prepend=-1))
    lows, highs = order[edges], order[np.append(edges[1:], len(order)) - 1]
    lasts = np.flatnonzero(np.diff(piece, append=pieces))
    return np.unique(np.concatenate(([0], lows, highs, lasts)))
