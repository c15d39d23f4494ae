"""What can be looked at in a profile or a trace: one entry a view; each is one function in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hybridlab.ui.profile import (
    trace_communication,
    trace_compare,
    trace_components,
    trace_downloads,
    trace_kernels,
    trace_memory,
    trace_operators,
    trace_overview,
    trace_timeline,
    trace_waiting,
)
from hybridlab.ui.profile.downloads import downloads
from hybridlab.ui.profile.findings import findings
from hybridlab.ui.profile.inputs import inputs
from hybridlab.ui.profile.memory import memory
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.profile.operators import operators
from hybridlab.ui.profile.overview import overview
from hybridlab.ui.profile.roofline import roofline
from hybridlab.ui.profile.timeline import timeline

Draw = Callable[[Opened], None]


@dataclass(frozen=True)
class Section:
    """A view: its name in the address, its title and icon, and what draws it."""

    name: str
    title: str
    icon: str
    draw: Draw


OF_PROFILES: tuple[Section, ...] = (
    Section("overview", "Overview", ":material/dashboard:", overview),
    Section("roofline", "Roofline", ":material/speed:", roofline),
    Section("timeline", "Timeline", ":material/view_timeline:", timeline),
    Section("memory", "Memory", ":material/memory:", memory),
    Section("operators", "Operators", ":material/table_rows:", operators),
    Section("inputs", "By input", ":material/category:", inputs),
    Section("findings", "Findings", ":material/lightbulb:", findings),
    Section("downloads", "Downloads", ":material/download:", downloads),
)
OF_TRACES: tuple[Section, ...] = (
    Section("overview", "Overview", ":material/dashboard:", trace_overview.draw),
    Section("components", "Components", ":material/account_tree:", trace_components.draw),
    Section("timeline", "Timeline", ":material/timeline:", trace_timeline.draw),
    Section("operators", "Operators", ":material/functions:", trace_operators.draw),
    Section("kernels", "Kernels", ":material/memory_alt:", trace_kernels.draw),
    Section("waiting", "Waiting", ":material/hourglass_empty:", trace_waiting.draw),
    Section("communication", "Communication", ":material/lan:", trace_communication.draw),
    Section("memory", "Memory", ":material/storage:", trace_memory.draw),
    Section("downloads", "Downloads", ":material/download:", trace_downloads.draw),
    Section("compare", "Compare", ":material/difference:", trace_compare.draw),
)


def sections(opened: Opened) -> tuple[Section, ...]:
    """Return the views of what is open, in the order in which they are offered."""
    return OF_PROFILES if opened.kind == "profile" else OF_TRACES
