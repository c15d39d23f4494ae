"""A measurement of a plan on its way, and what was measured before."""

from __future__ import annotations

from functools import partial

from hybridlab.runs.record import RunState
from hybridlab.ui import shell
from hybridlab.ui.memory.kind import BESIDE, KIND
from hybridlab.ui.memory.measuring import told
from hybridlab.ui.memory.work import Work, of_run
from hybridlab.ui.runs import opened
from hybridlab.ui.runs.head import Words
from hybridlab.ui.runs.one import log

_MOST = 8
_WORDS = Words(
    kind="plan",
    again="Measure again",
    icon=":material/refresh:",
    again_help="Measure it anew, under the same settings.",
    cancel_help="Stop after the part it is at; nothing is kept of it.",
    another="Another design",
    page=shell.MEMORY,
)


def opened_run(run_id: str) -> Work | None:
    """Show where the measurement of an address stands; return what it is of, or None where there is none."""
    run = opened.opened(run_id, (KIND, *BESIDE), _WORDS, "Plan something")
    if run is None:
        return None
    if run.state.active:
        if run.kind == KIND:  # the others are followed in sections of their own
            opened.under_way(run, partial(told, doing=_doing))
    elif run.state is not RunState.DONE:
        opened.in_vain(run, "measurement")
    if run.state is RunState.FAILED:
        log(run.id)
    with shell.told():
        return of_run(run)
    return None


def earlier() -> None:
    """List what was measured before, the newest first."""
    with shell.told():
        opened.earlier(
            "Plans that were measured",
            KIND,
            _MOST,
            "None yet. Set a budget below, then *Apply and measure* runs the step with its plan and puts what was "
            "measured beside what was predicted.",
        )


def _doing(done: int, parts: int) -> str:
    """Say what the worker is at."""
    if parts and done > parts - 3:
        return "Following the memory events of a step with the plan, and as it is"
    if done:
        return "Timing steps with the plan and as they are, in turn"
    return "Building the network, and measuring components that are new to this machine"
