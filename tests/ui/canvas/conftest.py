"""Lets the tests of this folder import random_edits.py, which also runs by itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
