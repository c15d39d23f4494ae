"""How a search went on: what its front covered after so many trials, and which worker did what when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from hybridlab.search.insight import Growth, growth
from hybridlab.search.record import TrialRow
from hybridlab.search.state import StudyState
from hybridlab.views import style

STATE_COLOURS = {
    "complete": style.SERIES_COLOURS[0],
    "beyond": style.SERIES_COLOURS[5],
    "stopped": style.OTHER_COLOUR,
    "failed": style.ERROR_COLOUR,
    "running": style.SERIES_COLOURS[1],
    "lost": style.WARNING_COLOUR,
}
STATE_WORDS = {
    "complete": "with values",
    "beyond": "beyond a limit",
    "stopped": "stopped by halving",
    "failed": "failed",
    "running": "running",
    "lost": "its worker died",
}
MOST_BARS = 600


@dataclass(frozen=True)
class ProgressInfo:
    """What the front covered after so many trials; ``whole`` is what the true front covers, where that is known."""

    trials: tuple[int, ...]
    covered: tuple[float, ...]
    whole: float | None
    lately: Growth | None

    @property
    def title(self) -> str:
        """What to see, in one line."""
        if not self.covered:
            return "Nothing is covered yet"
        if self.whole:
            return f"The front covers {self.covered[-1] / self.whole:.1%} of the true one"
        return f"What the front covers after {self.trials[-1]:,} trials"

    @property
    def hint(self) -> str:
        """Whether more trials will pay, in a sentence; empty before there is enough to say."""
        if self.lately is None:
            return ""
        said = f"The last {self.lately.trials:,} trials added {self.lately.share:.2%}"
        if self.lately.hardly:
            return f"{said}: the search has stopped paying, more trials will hardly find better."
        return f"{said}: more trials still find better."

    def table(self) -> pd.DataFrame:
        """Return the curve, one row a point."""
        return pd.DataFrame({"trials": self.trials, "hypervolume": self.covered})


def progress_info(
    state: StudyState, reference: Sequence[float] = (), whole: float | None = None
) -> ProgressInfo:
    """Return how a study's front grew, against the worst value of each objective.

    With a ``reference`` (every value one to be made small) and what the true front covers of it, against those.
    """
    trace = state.trace
    if whole is not None and state.done:
        trace = state.trace_against(tuple(reference))
    return ProgressInfo(
        tuple(count for count, _ in trace),
        tuple(volume for _, volume in trace),
        whole,
        growth(trace),
    )


def progress_plot(info: ProgressInfo) -> go.Figure:
    """Draw the share covered against the number of trials."""
    top = info.whole or (info.covered[-1] if info.covered else 1.0) or 1.0
    figure = go.Figure(
        go.Scatter(
            x=info.trials,
            y=[100 * volume / top for volume in info.covered],
            mode="lines+markers",
            line={"color": style.SERIES_COLOURS[0], "width": 2, "shape": "hv"},
            marker={"size": 5},
            name="covered",
            hovertemplate="%{x:,} trials<br>%{y:.2f} %<extra></extra>",
        )
    )
    if info.whole:
        figure.add_hline(
            y=100, line={"color": style.SERIES_COLOURS[2], "dash": "dot", "width": 1.5}
        )
    figure.update_layout(**style.layout(info.title, height=340))
    figure.update_xaxes(title_text="trials with values", rangemode="tozero")
    of = "the true front" if info.whole else "the front by now"
    figure.update_yaxes(title_text=f"hypervolume (% of {of})", rangemode="tozero")
    return figure


@dataclass(frozen=True)
class WorkersInfo:
    """Trials as bars: which lane, from when to when in seconds since the first began, and how they ended."""

    lanes: tuple[str, ...]
    bars: tuple[tuple[int, int, float, float, str], ...]
    """Trial, lane, begin, length, state."""
    left_out: int

    @property
    def title(self) -> str:
        """What to see, in one line."""
        if not self.bars:
            return "No trial has begun yet"
        return f"{len(self.lanes)} worker{'s' if len(self.lanes) > 1 else ''} at a time"

    def table(self) -> pd.DataFrame:
        """Return the bars, one row each."""
        names = ["trial", "worker", "begin_s", "seconds", "state"]
        rows = [(n, self.lanes[lane], begin, length, s) for n, lane, begin, length, s in self.bars]
        return pd.DataFrame(rows, columns=names)


def workers_info(rows: Sequence[TrialRow], now: float) -> WorkersInfo:
    """Return who ran which trial when; a worker that runs several at once has as many lanes. ``now``: seconds."""
    begun = [row for row in rows if row.started is not None and row.state != "waiting"]
    shown = begun[-MOST_BARS:]
    first = min((row.started or 0.0 for row in shown), default=0.0)
    workers: dict[str, int] = {}
    free: dict[tuple[int, int], float] = {}
    placed = []
    for row in sorted(shown, key=lambda one: (one.started or 0.0, one.number)):
        worker = workers.setdefault(row.worker, len(workers) + 1)
        begin = row.started or 0.0
        end = max(begin, row.ended if row.ended is not None else now)
        seat = 1
        while free.get((worker, seat), begin) > begin:
            seat += 1
        free[worker, seat] = end
        placed.append((row.number, (worker, seat), begin - first, end - begin, row.state))
    lanes = sorted(free)
    several = {worker for worker, seat in lanes if seat > 1}
    names = tuple(
        f"worker {worker}" + (f", seat {seat}" if worker in several else "")
        for worker, seat in lanes
    )
    bars = tuple((n, lanes.index(lane), b, length, s) for n, lane, b, length, s in placed)
    return WorkersInfo(names, bars, len(begun) - len(shown))


def workers_plot(info: WorkersInfo) -> go.Figure:
    """Draw a lane for each worker, a bar for each trial."""
    figure = go.Figure()
    for state, colour in STATE_COLOURS.items():
        bars = [bar for bar in info.bars if bar[4] == state]
        if bars:
            figure.add_trace(
                go.Bar(
                    x=[bar[3] for bar in bars],
                    base=[bar[2] for bar in bars],
                    y=[info.lanes[bar[1]] for bar in bars],
                    customdata=[bar[0] for bar in bars],
                    orientation="h",
                    name=STATE_WORDS[state],
                    marker={"color": colour, "line": {"color": style.GRID, "width": 1}},
                    hovertemplate="trial %{customdata}, %{x:.2f} s<extra></extra>",
                )
            )
    height = 170 + 28 * len(info.lanes)
    figure.update_layout(**style.layout(info.title, height=height, barmode="overlay", bargap=0.25))
    figure.update_xaxes(title_text="time since the first trial began (s)", rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=list(info.lanes), autorange="reversed")
    return figure
