"""A worker process whose trainings are quick and free of torch: ``python trial_worker.py --wait``."""

import sys
import time

from hybridlab.errors import RunError
from hybridlab.runs.context import RunContext, Stopped
from hybridlab.runs.worker import serve

STEPS = 8


def train(context: RunContext):
    """Count to eight, and go wrong as the width says; the accuracy tells how often the run was begun."""
    about = context.run.spec["search"]
    for step in range(1, STEPS + 1):
        reason = context.stop_requested()
        if reason:
            raise Stopped(reason)
        context.progress(step, STEPS)
        context.log_metrics(step, {"loss": 1 / step})
        time.sleep(0.1)
    text = context.run.spec["architecture"]
    if "width: 12" in text:
        raise MemoryError
    if "width: 16" in text:
        raise RunError("the loss is not finite after step 3")
    result = {"stop_reason": "steps", "steps": STEPS}
    if "width: 20" in text:
        return result | {"stop_reason": "cancel", "stopped_after": 2, "metrics": {}}
    times = dict.fromkeys(about["timed"], 2.0)
    return result | {"metrics": {about["metric"]: 0.5 + context.run.attempt / 100}, "times": times}


if __name__ == "__main__":
    sys.exit(serve({"search": train}, sys.stdin))
