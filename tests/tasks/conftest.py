"""Which tasks can be tested here: all but those whose data is a package that may be left out."""

from __future__ import annotations

import importlib.util

from hybridlab.tasks.registry import tasks

WITH_SERIES = importlib.util.find_spec("sktime") is not None
"""Whether the package is there whose files hold the time series: pip install --no-deps 'sktime>=1.2,<2'."""
OF_SERIES = {"time_series", "vowels_length", "vowels_duration"}
"""The tasks that read them."""
AVAILABLE = sorted(name for name in tasks() if name not in OF_SERIES or WITH_SERIES)
