"""What a profile says, in sentences: each with its numbers, the components, the view that shows it and where to act."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa

from hybridlab.profiling.record import NAMED, Profile
from hybridlab.profiling.work_tables import OVERHEAD
from hybridlab.trace.live import live
from hybridlab.trace.reuse import MEMORY
from hybridlab.units import format_bytes, format_seconds

DEAR_SHARE = 0.25
"""From a quarter of the step on, a component is worth a sentence: halving it saves more than an eighth."""
SEEN_SHARE = 0.05
"""What is below a twentieth of the step cannot change the step by more than the noise of a busy machine."""
FORECAST_OFF = 1.5
"""The calibrated prediction aims at 12 % in the median, so half as much again is no noise of it."""
COPIED_SHARE, CROSSING_SHARE = 0.25, 0.01
"""A hand-over is remarked on where a quarter of it is copied, and it is a hundredth of all bytes that are read."""
FUSED_SHARE, FUSED_OF_STEP = 0.2, 0.02
"""Fusing pays where it saves a fifth of a chain's bytes; below a fiftieth of the step's it would not be felt."""
WASTED_SHARE = 0.01
"""Work that is repeated or read by nobody: from a hundredth of the step's bytes or FLOPs on."""
KEPT_SHARE = 0.3
"""What waits for backward is worth a sentence from three tenths of the peak on."""
CALLS_SHARE = 0.25
"""A step is bound by overhead where calling operators alone, whatever they do, takes a quarter of it."""
FAR_SHARE, REACHED_SHARE = 0.1, 0.1
"""A component of a tenth of the step that reaches less than a tenth of what the ceilings allow has room."""
MEMORY_SHARE = 0.5
"""A component is remarked on that takes half of its bytes from beyond every cache."""
UNNAMED_SHARE, SPREAD = 0.05, 1.5
"""Doubts of the measurement: a twentieth without a name; an interval that ends half as high again as it begins."""
DESIGN, PLAN, TRAIN, AGAIN = "design", "memory", "train", "profile"
COMPILED, LAYOUT = f"{PLAN}/compiled", f"{PLAN}/tuning"
"""The pages that act on findings: the designer, the one that plans what is kept, with its sections that
measure it compiled and in other layouts, the one where a training is set up, and the profile of the same step again."""
Severity = Literal["warning", "hint", "note"]
WEIGHTY = 0.2
"""A finding about a fifth of the step is a warning, one about less a hint."""
_INNER_REPEAT = re.compile(r"\.\d+(?=\.)")
_MOST_PAIRS = 3


@dataclass(frozen=True)
class Finding:
    """One thing that a profile shows.

    ``share`` is the share of the step's time, of its bytes or of its peak that it is about; ``view`` is the name of the
    view that shows it, and ``page`` that of the page that acts on it, with its section behind a slash where it has
    several, empty where none does; ``evidence`` holds its numbers.
    """

    sentence: str
    share: float
    severity: Severity
    components: tuple[str, ...]
    view: str
    page: str
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON."""
        return asdict(self) | {"components": list(self.components), "evidence": dict(self.evidence)}


def findings(profile: Profile, tables: Mapping[str, pa.Table]) -> tuple[Finding, ...]:
    """Return what a profile's tables (those of ``report``) show, what concerns most of the step first."""
    found = [
        *_dear(profile),
        *_overhead(profile, tables["ceilings"]),
        *_far(profile, tables["roofline"]),
        *_crossing(tables["hand_overs"]),
        *_fusing(profile, tables["fusable"]),
        *_wasted(profile, tables["repeated"], "Work is repeated on unchanged inputs by"),
        *_wasted(profile, tables["dead"], "Nothing reads the results of"),
        *_kept(profile, tables["at_peak"]),
        *_from_memory(tables["levels"]),
        *_doubts(profile),
    ]
    return tuple(sorted(found, key=lambda item: (item.severity == "note", -item.share)))


def _finding(
    sentence: str,
    share: float,
    components: Sequence[str],
    view: str,
    page: str = DESIGN,
    /,
    **evidence: float | int | str,
) -> Finding:
    severity: Severity = "warning" if share >= WEIGHTY else "hint"
    own = tuple(path for path in components if path not in NAMED)
    acts = own or page in (TRAIN, AGAIN)
    return Finding(sentence, share, severity, own, view, page if acts else "", evidence)


def together(paths: Sequence[str]) -> str:
    """Write components that are repeats of one as one: ``stage.*.ssm``."""
    nodes = {_INNER_REPEAT.sub(".*", path) for path in paths}
    return paths[0] if len(paths) == 1 or len(nodes) != 1 else nodes.pop()


def _repeats(paths: Sequence[str]) -> dict[str, list[str]]:
    """Return components together with their repeats."""
    found: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        found.setdefault(_INNER_REPEAT.sub(".*", path), []).append(path)
    return found


def _dear(profile: Profile) -> Iterator[Finding]:
    """Remark on components that take much of the step, repeats together, and on predictions that are far off."""
    items = {item.path: item for item in profile.components}
    for paths in _repeats(list(items)).values():
        mine = [items[path] for path in paths]
        share, ms = sum(item.share for item in mine), sum(item.ms for item in mine)
        forecast = sum(item.predicted_ms or 0.0 for item in mine)
        times = ms / forecast if forecast else 1.0
        off = not 1 / FORECAST_OFF <= times <= FORECAST_OFF
        if share < (SEEN_SHARE if off else DEAR_SHARE):
            continue
        said = f"{together(paths)} takes {_percent(share)} of the step (measured)"
        if off:
            said += f", {times:.1f} times its prediction" if times > 1 else ""
            said += f", {_percent(times)} of its prediction" if times < 1 else ""
        evidence: dict[str, float | int | str] = {
            "ms": ms,
            "backward_ms": sum(i.backward_ms for i in mine),
        }
        if forecast:
            evidence["predicted_ms"] = forecast
        yield _finding(said, share, paths, "roofline", **evidence)


def _overhead(profile: Profile, ceilings: pa.Table) -> Iterator[Finding]:
    calls = [row["value"] for row in ceilings.to_pylist() if row["kind"] == OVERHEAD]
    step_ms, operators = profile.step_ms_measured.value, len(profile.stream)
    if not calls or not operators or step_ms <= 0:
        return
    share = min(1.0, 1e3 * operators * calls[0] / step_ms)
    if share >= CALLS_SHARE:
        mean_us = 1e3 * step_ms / operators
        yield _finding(
            f"The step is bound by overhead: {operators:,} operators a step, {mean_us:.0f} µs each at the mean, "
            f"of which a call alone costs {1e6 * calls[0]:.1f} µs (measured); a larger batch costs little more",
            share,
            [],
            "operators",
            TRAIN,
            operators=operators,
            mean_us=mean_us,
            call_us=1e6 * calls[0],
        )


def _far(profile: Profile, roofline: pa.Table) -> Iterator[Finding]:
    shares = {item.path: item.share for item in profile.components}
    rows = {row["component"]: row for row in roofline.to_pylist() if row["source"] == "measured"}
    for paths in _repeats(list(rows)).values():
        mine = [rows[path] for path in paths]
        if any(row["ceiling_ms"] is None or not row["ms"] for row in mine):
            continue
        share = sum(shares.get(path, 0.0) for path in paths)
        ms, ceiling_ms = (sum(row[name] for row in mine) for name in ("ms", "ceiling_ms"))
        if share >= FAR_SHARE and ceiling_ms < REACHED_SHARE * ms:
            yield _finding(
                f"{together(paths)} reaches {_percent(ceiling_ms / ms)} of what this machine's ceilings allow its "
                f"operators: {format_seconds(ceiling_ms / 1e3)} of the {format_seconds(ms / 1e3)} it takes (measured)",
                share * (1 - ceiling_ms / ms),
                paths,
                "roofline",
                ms=ms,
                ceiling_ms=ceiling_ms,
                operators=sum(row["operators"] for row in mine),
            )


def _crossing(hand_overs: pa.Table) -> Iterator[Finding]:
    """Remark on hand-overs of which much is copied, with the casts and the changes of layout among them."""
    rows = hand_overs.to_pylist()
    total = sum(row["read_bytes"] for row in rows)
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        key = tuple(_INNER_REPEAT.sub(".*", row[name]) for name in ("writer", "reader"))
        pairs.setdefault((key[0], key[1]), []).append(row)
    worth = []
    for mine in pairs.values():
        read, copied, cast, relaid = (
            sum(row[name] for row in mine)
            for name in ("read_bytes", "copied_bytes", "cast_bytes", "relaid_bytes")
        )
        if read >= CROSSING_SHARE * total and copied >= COPIED_SHARE * read:
            worth.append((copied, read, cast, relaid, mine))
    for copied, read, cast, relaid, mine in sorted(worth, key=lambda one: -one[0])[:_MOST_PAIRS]:
        writer, reader = ([row[name] for row in mine] for name in ("writer", "reader"))
        ways = [
            words
            for size, words in (
                (cast, "into another number format"),
                (relaid, "into another layout (transposed)"),
            )
            if size >= copied / 2
        ]
        yield _finding(
            f"{_percent(copied / read)} of the bytes that cross {_together(writer)} → {_together(reader)} are copied"
            + (f" {' and '.join(ways)}" if ways else "")
            + f": {format_bytes(copied)} of {format_bytes(read)} a step",
            copied / total,
            list(dict.fromkeys([*reader, *writer])),
            "memory",
            LAYOUT if relaid >= copied / 2 else DESIGN,
            read_bytes=read,
            copied_bytes=copied,
            cast_bytes=cast,
            relaid_bytes=relaid,
        )


def _together(paths: Sequence[str]) -> str:
    return together(list(dict.fromkeys(paths)))


def _fusing(profile: Profile, fusable: pa.Table) -> Iterator[Finding]:
    moved_all = _moved(profile)
    rows = fusable.to_pylist()
    for paths in _repeats([row["component"] for row in rows]).values():
        mine = [row for row in rows if row["component"] in paths]
        chains, operators, moved, saved = (
            sum(row[name] for row in mine)
            for name in ("chains", "operators", "moved_bytes", "saved_bytes")
        )
        if saved >= FUSED_SHARE * moved and saved >= FUSED_OF_STEP * moved_all:
            yield _finding(
                f"Element-wise operators stand in a row in {together(paths)} ({_count(chains, 'row')} of "
                f"together {operators:,}): one fused kernel for each row would move {_percent(saved / moved)} "
                f"fewer bytes, {format_bytes(saved)} a step",
                saved / moved_all,
                paths,
                "operators",
                COMPILED,
                chains=chains,
                operators=operators,
                moved_bytes=moved,
                saved_bytes=saved,
            )


def _wasted(profile: Profile, table: pa.Table, what: str) -> Iterator[Finding]:
    rows = table.to_pylist()
    moved, flops = (sum(row[name] for row in rows) for name in ("bytes_moved", "flops"))
    share = max(moved / _moved(profile), flops / max(1, profile.stream.flops))
    if share < WASTED_SHARE:
        return
    operators = sum(row["operators"] for row in rows)
    names = ", ".join(dict.fromkeys(row["op"] for row in rows[:4]))
    paths = list(dict.fromkeys(row["component"] for row in rows))
    yield _finding(
        f"{what} {_count(operators, 'operator')} a step ({names}), most of it in {paths[0]}: "
        f"{format_bytes(moved)} moved",
        share,
        paths,
        "operators",
        operators=operators,
        bytes_moved=moved,
        flops=flops,
    )


def _kept(profile: Profile, at_peak: pa.Table) -> Iterator[Finding]:
    """Say in which phase and component the peak is made, where what waits for backward makes much of it."""
    rows = [row for row in at_peak.to_pylist() if row["source"] == "measured"]
    total = sum(row["bytes"] for row in rows)
    kept: dict[str, int] = {}
    for row in rows:
        if row["category"] == "kept for backward":
            kept[row["component"]] = kept.get(row["component"], 0) + row["bytes"]
    if not kept or sum(kept.values()) < KEPT_SHARE * total:
        return
    groups = _repeats(list(kept)).values()
    paths = max(groups, key=lambda group: sum(kept[path] for path in group))
    most, every = sum(kept[path] for path in paths), sum(kept.values())
    when = _at_work(profile)
    yield _finding(
        f"The peak{when} is made by what waits for backward: {_percent(every / total)} of "
        f"{format_bytes(total)} (measured), most of it of {together(paths)} ({format_bytes(most)})",
        every / total,
        paths,
        "memory",
        PLAN,
        peak_bytes=total,
        kept_bytes=every,
        most_bytes=most,
    )


def _at_work(profile: Profile) -> str:
    """Say which component was at work in which phase when the peak was reached."""
    ticks = profile.stream.numbers("tick")
    place = max(0, int(ticks.searchsorted(live(profile.stream).peak_tick, side="right")) - 1)
    phase, path = (profile.stream.strings(name)[place] for name in ("phase", "component"))
    return f" in {phase} of {path}"


def _from_memory(levels: pa.Table) -> Iterator[Finding]:
    rows = levels.to_pylist()
    total = sum(row["bytes"] for row in rows)
    sums: dict[str, list[int]] = {}
    for row in rows:
        mine = sums.setdefault(_INNER_REPEAT.sub(".*", row["component"]), [0, 0])
        mine[0] += row["bytes"] if row["level"] == MEMORY else 0
        mine[1] += row["bytes"]
    for node, (far, own) in sums.items():
        if far >= MEMORY_SHARE * own and far >= FAR_SHARE * total:
            paths = _repeats([row["component"] for row in rows])[node]
            yield _finding(
                f"{together(paths)} takes {_percent(far / own)} of its bytes from beyond every cache: "
                f"{format_bytes(far)} a step come back after more than the caches hold",
                far / total,
                paths,
                "memory",
                memory_bytes=far,
                bytes=own,
            )


def _doubts(profile: Profile) -> Iterator[Finding]:
    """Tell what speaks against the measurement, or against the prediction."""
    step = profile.step_ms_measured
    if profile.attributed < 1 - UNNAMED_SHARE:
        lost = format_seconds(profile.unattributed_ms / 1e3)
        said = f"{_percent(1 - profile.attributed)} of the step has no name: {lost} (measured)"
        evidence: dict[str, float | int | str] = {"unattributed_ms": profile.unattributed_ms}
        yield Finding(said, 1 - profile.attributed, "note", (), "timeline", "", evidence)
    if step.low > 0 and step.high > SPREAD * step.low:
        yield Finding(
            f"Steps vary from {format_seconds(step.low / 1e3)} to {format_seconds(step.high / 1e3)} (measured); "
            "profile again while nothing else runs on this machine",
            step.high / step.low - 1,
            "note",
            (),
            "overview",
            AGAIN,
            {"low_ms": step.low, "high_ms": step.high, "steps": step.n},
        )
    times = step.value / profile.step_ms_predicted if profile.step_ms_predicted else 1.0
    if not 1 / FORECAST_OFF <= times <= FORECAST_OFF:
        yield Finding(
            f"The step takes {times:.2g} times its prediction: {format_seconds(step.value / 1e3)} measured, "
            f"{format_seconds((profile.step_ms_predicted or 0.0) / 1e3)} predicted",
            abs(times - 1),
            "note",
            (),
            "roofline",
            "",
            {"measured_ms": step.value, "predicted_ms": profile.step_ms_predicted or 0.0},
        )


def _moved(profile: Profile) -> int:
    ops = profile.stream
    return max(1, int(ops.numbers("bytes_read").sum() + ops.numbers("bytes_written").sum()))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1f} %"
