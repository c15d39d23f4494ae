"""Which small charts a training has, from the task and the metrics that came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybridlab.ui.live.component import Panel
from hybridlab.ui.train.task_views import loss_unit, panels_of

MEBIBYTE = 1 / 2**20
MOST_CORES = 8
"""With more cores their mean is drawn: so many lines can be told apart."""
_OF_DEVICE = (
    (
        "Memory of the device",
        "memory",
        "MiB",
        MEBIBYTE,
        (("device_bytes", "in tensors"), ("device_reserved_bytes", "reserved")),
    ),
    (
        "Fragmentation of the device's memory",
        "unused",
        "MiB",
        MEBIBYTE,
        (
            ("device_unused_bytes", "reserved, not allocated"),
            ("device_inactive_split_bytes", "in pieces of blocks in use"),
            ("device_largest_free_bytes", "largest free block"),
        ),
    ),
    (
        "Device in use",
        "use",
        "%",
        1.0,
        (
            ("device_utilisation_percent", "device"),
            ("device_sm_percent", "multiprocessors"),
            ("device_memory_controller_percent", "memory controller"),
        ),
    ),
    ("Power", "power", "W", 1.0, (("device_power_w", "device"),)),
    (
        "Temperature of the device",
        "temperature",
        "°C",
        1.0,
        (("device_temperature_celsius", "device"),),
    ),
    (
        "Clocks of the device",
        "clock",
        "MHz",
        1.0,
        (("device_sm_clock_mhz", "multiprocessors"), ("device_memory_clock_mhz", "memory")),
    ),
)
"""Title, label, unit, scale, and the metrics with their names for people."""
_LOSSES = {
    "distill_logits": "answers (nats)",
    "distill_hidden": "hidden states (share)",
    "distill_matrices": "mixing matrices (norm)",
}
_WORDS = {
    "accuracy": "accuracy",
    "bits_per_byte": "bits per byte",
    "mean_abs_error": "mean absolute error",
}


def panels(task: Mapping[str, Any] | None, names: Sequence[str] = ()) -> list[Panel]:
    """Return the charts of a training on a task, for the ``names`` of the metrics that came so far.

    What no meter of the machine reads has no chart: the page says in words that it is not measured.
    """
    measure = str(task["measure"]) if task else "accuracy"
    metrics = (
        tuple(task["val_metrics"]) if task else tuple(n for n in names if n.startswith("val_"))
    )
    return [
        Panel("Training loss", "loss", ("loss",), loss_unit((*names, *metrics)), smooth=True),
        validation(
            measure, metrics or (f"val_{measure}",), unit=str(task.get("unit", "")) if task else ""
        ),
        *panels_of(names),
        *_of_teacher(names),
        *_rates(names),
        *_use_of_host(names),
        *_use_of_device(names),
    ]


def _of_teacher(names: Sequence[str]) -> list[Panel]:
    """Return the chart of how a student differs from its teacher: each loss before its weight."""
    found = tuple(name for name in _LOSSES if name in names)
    if not found:
        return []
    told = tuple(_LOSSES[name] for name in found)
    title = f"Difference from the teacher: {', '.join(told)}"
    return [_small(title, "loss", found, "", names=told, width=12, colour=6)]


def _rates(names: Sequence[str]) -> list[Panel]:
    """Return the chart of the learning rate that weights had at each step: one line a group, or one for all."""
    found = tuple(name for name in names if name.startswith("learning_rate/"))
    if not found:
        return [_small("Learning rate", "rate", ("learning_rate",), "", width=12, colour=5)]
    told = tuple(name.partition("/")[2] for name in found)
    return [_small("Learning rate by group", "rate", found, "", names=told, width=12, colour=5)]


def _small(title: str, label: str, metrics: tuple[str, ...], unit: str, **more: Any) -> Panel:
    return Panel(title, label, metrics, unit, height=140, zero=True, **{"width": 4, **more})


def _use_of_host(names: Sequence[str]) -> list[Panel]:
    cores = sorted((n for n in names if n.startswith("core_percent/")), key=_number)
    shown = tuple(cores) if 0 < len(cores) <= MOST_CORES else ("cores_percent",)
    told = "cores_percent" in names
    width = 3 if told else 4
    own = "Processor in use, 100 % is one core" if not told else "Processor, 100 % is one core"
    found = [
        _small("Speed", "speed", ("samples_per_s",), "samples/s", width=width, colour=4),
        _small(
            "Memory of the process",
            "memory",
            ("rss_bytes",),
            "MiB",
            scale=MEBIBYTE,
            width=width,
            colour=3,
        ),
        _small(own, "use", ("cpu_percent",), "%", width=width, colour=2),
    ]
    if told:
        labels = tuple(f"core {_number(name)}" for name in shown) if cores else ("mean",)
        title = "All cores" if len(shown) > 1 else "Mean of the machine's cores"
        found.append(
            _small(title, "use", shown, "%", width=width, names=labels, range=(0.0, 105.0))
        )
    return found


def _use_of_device(names: Sequence[str]) -> list[Panel]:
    """Return the charts of what an accelerator and the energy counters told; none where nothing did."""
    found = []
    for title, label, unit, scale, lines in _OF_DEVICE:
        known = [(name, told) for name, told in lines if name in names]
        if title == "Power":
            watts = sorted(name for name in names if name.startswith("power_w/"))
            known += [(name, name.partition("/")[2]) for name in watts]
        if known:
            metrics, told = zip(*known, strict=True)
            found.append(_small(title, label, metrics, unit, scale=scale, names=told, colour=2))
    return found


def _number(name: str) -> int:
    last = name.rpartition("/")[2]
    return int(last) if last.isdigit() else 0


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
