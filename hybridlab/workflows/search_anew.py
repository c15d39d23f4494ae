"""The driver of a study that a page asked for: ``python -m hybridlab.workflows.search_anew STUDY``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hybridlab.errors import HybridLabError, Problem, RunError
from hybridlab.search.driver import note_end, requested
from hybridlab.search.spec import SearchSpec
from hybridlab.workflows.search import run_search
from hybridlab.workflows.work import stopped_by_signals


def main(arguments: Sequence[str]) -> int:
    """Make or go on with the study that is named, as was asked for; return the exit code, with the end noted."""
    if len(arguments) != 1:
        print("usage: python -m hybridlab.workflows.search_anew STUDY", file=sys.stderr)
        return 2
    name = arguments[0]
    error: HybridLabError | None = None
    try:
        with stopped_by_signals() as should_stop:
            asked = requested(name)
            run_search(
                SearchSpec.model_validate(asked.file),
                trials=asked.trials,
                sampler=asked.sampler,
                study=name,
                workers=asked.workers,
                on_words=lambda words: print(words, flush=True),
                should_stop=should_stop,
            )
    except HybridLabError as found:
        error = found
        print(found, file=sys.stderr)
    except Exception as found:
        error = RunError(
            Problem(name, f"the search failed: {type(found).__name__}: {str(found)[:300]}")
        )
        note_end(name, error)
        raise
    note_end(name, error)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
