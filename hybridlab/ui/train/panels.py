"""Which small charts a training has, from the task and the metrics that came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybridlab.ui.live.component import Panel

MEBIBYTE = 1 / 2**20
_WORDS = {"accuracy": "accuracy", "bits_per_byte": "bits per byte"}


def panels(task: Mapping[str, Any] | None, names: Sequence[str] = ()) -> list[Panel]:
    """Return the charts of a training on a task; ``names`` are metrics that came, in case the task is not known."""
    measure = str(task["measure"]) if task else "accuracy"
    metrics = (
        tuple(task["val_metrics"]) if task else tuple(n for n in names if n.startswith("val_"))
    )
    devices = any(name.startswith("device_") for name in names)
    return [
        Panel("Training loss", "loss", ("loss",), "nats", smooth=True),
        validation(measure, metrics or (f"val_{measure}",)),
        Panel(
            "Speed",
            "speed",
            ("samples_per_s",),
            "samples/s",
            width=4,
            height=140,
            zero=True,
            colour=4,
        ),
        Panel(
            "Memory of the process" + (" and the device" if devices else ""),
            "memory",
            ("rss_bytes", "device_bytes") if devices else ("rss_bytes",),
            "MiB",
            MEBIBYTE,
            width=4,
            height=140,
            zero=True,
            names=("process", "device"),
            colour=3,
        ),
        Panel(
            "Device in use" if devices else "Processor in use, 100 % is one core",
            "use",
            ("device_utilisation_percent",) if devices else ("cpu_percent",),
            "%",
            width=4,
            height=140,
            zero=True,
            colour=2,
        ),
    ]


def validation(measure: str, metrics: tuple[str, ...], **more: Any) -> Panel:
    """Return the chart of a measure on the validation splits."""
    word = _WORDS.get(measure, measure)
    return Panel(
        f"Validation {word}",
        word,
        metrics,
        points=True,
        range=(0.0, 1.02) if measure == "accuracy" else None,
        names=tuple(_split(name) for name in metrics),
        colour=1,
        **more,
    )


def _split(metric: str) -> str:
    """Name a split for people: ``val_accuracy_96`` is scored at length 96."""
    last = metric.rpartition("_")[2]
    return f"length {last}" if last.isdigit() else "validation"
