"""A measurement of a plan on its way, and what was measured before."""

from __future__ import annotations

from hybridlab.runs.record import Run, RunState
from hybridlab.ui import shell
from hybridlab.ui.memory.kind import BESIDE, KIND
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
            opened.under_way(run, _told)
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


def _told(run: Run) -> tuple[float, str]:
    """Say what the worker is at."""
    if run.state is RunState.QUEUED:
        return 0.0, "Queued; it starts as soon as a core is free"
    share = run.step / run.steps if run.steps else 0.0
    doing = "Building the network, and measuring components that are new to this machine"
    if run.steps and run.step > run.steps - 3:
        doing = "Following the memory events of a step with the plan, and as it is"
    elif run.step:
        doing = "Timing steps with the plan and as they are, in turn"
    return share, "Stopping" if run.cancel_requested else doing
