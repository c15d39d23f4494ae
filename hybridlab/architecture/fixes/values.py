"""Fixes for values and keys: the nearest allowed value, a key spelt right, a key removed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from hybridlab.architecture.fixes.fix import Fix, setting
from hybridlab.architecture.fixes.limits import Limits, limits_of, parameters
from hybridlab.architecture.fixes.spot import Entries, Spot, short
from hybridlab.architecture.spec import ARCHITECTURE_KEYS, NODE_KEYS, Architecture
from hybridlab.errors import Problem

_TRY = re.compile(r"\btry (\d+)(?: or (\d+))?")
_SET = re.compile(r"\b(?:set|lower|raise) (\w+)(?:: | to )([\w.+-]+)")
_DIVISOR = re.compile(r"a divisor of (\d{1,6})")
_RIDERS = ("kv_heads", "groups")
"""Parameters that have to divide heads in their turn."""
_MOST_DIVISORS = 6


def value_fixes(spot: Spot, problem: Problem, entries: Entries) -> Iterator[Fix]:
    """Propose values and spellings for the key that a problem is about, the likeliest first."""
    if not isinstance(spot.node, dict):
        return
    if problem.message == "unknown key":
        yield from _respelt(spot, entries)
    elif problem.message.startswith("unknown key "):
        yield from _group_keys(spot)
    elif problem.message == "is missing":
        yield from _supplied(spot, entries)
    elif spot.path or spot.key in ("name", "source", "description", "width"):
        yield from _divisors(spot, problem, entries)
        yield from _even_heads(spot, problem)
        yield from _suggested(spot, problem, entries)
        yield from _nearest(spot, problem, entries)


def _set(spot: Spot, key: str, value: Any) -> Fix:
    return Fix(f"Set {key} to {short(value)}", (setting(spot.path, key, value),))


def _divisors(spot: Spot, problem: Problem, entries: Entries) -> Iterator[Fix]:
    """Propose the divisors around a value that does not divide, alone or with what hangs on it reset."""
    match, value = _DIVISOR.search(problem.expected), spot.node.get(spot.key)
    limits = limits_of(spot, entries)
    if match is None or limits is None:
        return
    if not isinstance(value, int):
        value = limits.default if isinstance(limits.default, int) else 1
    total = int(match[1])
    fitting = [n for n in range(1, total + 1) if total % n == 0 and n != value and limits.fits(n)]
    for number in sorted(fitting, key=lambda n: (abs(n - value), n))[:_MOST_DIVISORS]:
        yield _set(spot, spot.key, number)
        for rider in _RIDERS:
            if spot.key == "heads" and rider in spot.node:
                changes = (
                    setting(spot.path, spot.key, number),
                    setting(spot.path, rider, None),
                )
                yield Fix(f"Set {spot.key} to {number} and leave {rider} out", changes)


def _even_heads(spot: Spot, problem: Problem) -> Iterator[Fix]:
    """Propose numbers of heads, or a head size, for which a head has an even number of features."""
    if "rotary positions turn pairs" not in problem.message:
        return
    value, width = spot.node.get(spot.key), spot.content.get("width", 64)
    if spot.key == "head_dim" and isinstance(value, int):
        yield _set(spot, spot.key, value + 1)
    elif isinstance(width, int) and width <= 65_536:
        now = value if isinstance(value, int) else 4
        even = [n for n in range(1, width + 1) if width % n == 0 and (width // n) % 2 == 0]
        for number in sorted(even, key=lambda n: (abs(n - now), n))[:2]:
            yield _set(spot, spot.key, number)


def _suggested(spot: Spot, problem: Problem, entries: Entries) -> Iterator[Fix]:
    """Propose what the problem's own sentence suggests: ``try 4 or 8``, ``set residual: none``."""
    if not spot.path:
        return
    for text in (text for match in _TRY.finditer(problem.fix) for text in match.groups() if text):
        yield _set(spot, spot.key, int(text))
    known = {*parameters(entries, spot.node.get("use")), "residual"}
    for key, text in _SET.findall(problem.fix):
        if key in known:
            yield _set(spot, key, _read(text.rstrip(".")))
    if problem.message.startswith("cannot choose more experts"):
        yield _set(spot, "experts", spot.node.get("top_k"))


def _nearest(spot: Spot, problem: Problem, entries: Entries) -> Iterator[Fix]:
    """Propose the nearest allowed value, then the default."""
    limits = limits_of(spot, entries)
    if limits is None:
        yield from _shorter(spot, problem)
        return
    value = spot.node.get(spot.key)
    if limits.fits(value) and spot.key in spot.node:
        return  # allowed by itself: what is wrong depends on other values
    near = limits.nearest(value)
    if near is not None:
        yield _set(spot, spot.key, near)
    if limits.required:
        yield _set(spot, spot.key, limits.filler())
    elif near is None or near != limits.default:
        yield _defaulted(spot, limits)


def _defaulted(spot: Spot, limits: Limits) -> Fix:
    said = "" if limits.default is None else f", which is {short(limits.default)}"
    return Fix(f"Use the default {spot.key}{said}", (setting(spot.path, spot.key, None),))


def _shorter(spot: Spot, problem: Problem) -> Iterator[Fix]:
    """Propose the start of a text that is too long, or a name where there is none."""
    value = spot.node.get(spot.key)
    if spot.path or spot.key not in ("name", "source", "description"):
        return
    if spot.key == "name" and not value:
        yield _set(spot, "name", "untitled")
    bound = re.fullmatch(r"at most (\d+)", problem.expected)
    if bound and isinstance(value, str):
        most = int(bound[1])
        change = setting("", spot.key, value[:most])
        yield Fix(f"Keep the first {most:,} characters", (change,))
    elif value is not None and not isinstance(value, str):
        change = setting("", spot.key, short(value, 60))
        yield Fix(f"Take {spot.key} as text", (change,))


def _respelt(spot: Spot, entries: Entries) -> Iterator[Fix]:
    """Propose the known key that an unknown one is close to, then to remove it."""
    if spot.key not in spot.node:
        return
    value = spot.node[spot.key]
    if not spot.path:
        known = dict.fromkeys(ARCHITECTURE_KEYS)
        if isinstance(value, (dict, list)):
            return
    else:
        known = {
            **dict.fromkeys(("id", "inputs", "residual")),
            **parameters(entries, spot.node.get("use")),
        }
    free = [key for key in known if key not in spot.node]
    for close in difflib.get_close_matches(spot.key, free, n=2, cutoff=0.6):
        limits = known[close]
        if limits is None or limits.fits(value):
            changes = (setting(spot.path, spot.key, None), setting(spot.path, close, value))
            yield Fix(f"Write {short(spot.key)} as {close}", changes)
    yield Fix(f"Remove {short(spot.key)}", (setting(spot.path, spot.key, None),))


def _group_keys(spot: Spot) -> Iterator[Fix]:
    """Propose to spell a group's keys right, and to remove those it cannot have."""
    strange = [key for key in spot.node if key not in NODE_KEYS]
    free = [key for key in NODE_KEYS if key not in spot.node and key != "use"]
    respelt = {
        key: close[0] for key in strange if (close := difflib.get_close_matches(key, free, n=1))
    }
    gone = tuple(setting(spot.path, key, None) for key in strange)
    if respelt:
        new = tuple(setting(spot.path, good, spot.node[bad]) for bad, good in respelt.items())
        words = ", ".join(f"{short(bad)} as {good}" for bad, good in respelt.items())
        yield Fix(f"Write {words}", (*gone, *new))
    yield Fix("Remove " + short(", ".join(strange), 60), gone)


def _supplied(spot: Spot, entries: Entries) -> Iterator[Fix]:
    """Propose a value for what is missing and has no default."""
    if not spot.path:
        if spot.key == "name" and Architecture.model_fields["name"].is_required():
            yield _set(spot, "name", "untitled")
        return
    limits = limits_of(spot, entries)
    if limits is not None:
        yield _set(spot, spot.key, limits.filler() if limits.required else limits.default)


def _read(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
