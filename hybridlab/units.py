"""Bytes, FLOPs, seconds and counts: how they are written for people, and read back."""

from __future__ import annotations

import math
import re

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_SIZES: dict[str, int] = {unit.lower(): 1024**power for power, unit in enumerate(_BINARY)} | {
    unit: 1000**power for power, unit in enumerate(("b", "kb", "mb", "gb", "tb", "pb"))
}
_SIZE_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)\s*")


def _significant(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(value: float, base: float, names: tuple[str, ...]) -> tuple[float, str]:
    power = 0
    while abs(value) >= base * 0.9995 and power < len(names) - 1:
        value /= base
        power += 1
    return value, names[power]


def format_bytes(count: float) -> str:
    """Write a number of bytes with a binary unit, for example ``38.3 MiB``."""
    value, unit = _scaled(float(count), 1024, _BINARY)
    return f"{_significant(value)} {unit}"


def format_count(count: float, unit: str = "") -> str:
    """Write a count with a decimal prefix, for example ``1.25 M`` or ``3.1 GFLOPs``."""
    value, prefix = _scaled(float(count), 1000, _DECIMAL)
    return f"{_significant(value)} {prefix}{unit}".rstrip()


def format_flops(flops: float) -> str:
    """Write a number of floating-point operations, for example ``3.1 GFLOPs``."""
    return format_count(flops, "FLOPs")


def format_seconds(seconds: float) -> str:
    """Write a duration the way people say it, for example ``1 min 20 s`` or ``4.2 ms``."""
    if seconds < 0 or not math.isfinite(seconds):
        return "unknown"
    if seconds < 0.9995:
        return (
            f"{_significant(seconds * 1e3)} ms"
            if seconds >= 1e-3
            else f"{_significant(seconds * 1e6)} µs"
        )
    if seconds < 59.95:
        return f"{_significant(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def format_joules(joules: float) -> str:
    """Write an energy with a decimal prefix, for example ``1.25 kJ`` or ``3.1 mJ``."""
    if 0 < abs(joules) < 0.9995:
        small = (("mJ", 1e3), ("µJ", 1e6), ("nJ", 1e9))
        unit, factor = next((one for one in small if abs(joules) * one[1] >= 0.9995), small[-1])
        return f"{_significant(joules * factor)} {unit}"
    return format_count(joules, "J")


def parse_bytes(text: str) -> int:
    """Read a size such as ``40MiB`` or ``1.5 GB``.

    Raises:
        ValueError: the text is not a number followed by a unit of bytes.
    """
    match = _SIZE_TEXT.fullmatch(text)
    if match is None or match[2].lower() not in _SIZES:
        raise ValueError(f"{text!r} is not a size; write a number and a unit, such as 40MiB")
    return round(float(match[1]) * _SIZES[match[2].lower()])
