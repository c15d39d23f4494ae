"""Random edits through the real component: the canvas shows what Python holds, after each row of edits and its undoing.

``HYBRIDLAB_SEQUENCES=500`` tries more rows of edits than a test run has time for.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parent))
from test_canvas import CANVAS, open_design, settled, yaml_text

from hybridlab.architecture import library
from hybridlab.errors import SpecError
from hybridlab.ui.canvas.changes import make
from hybridlab.ui.canvas.tree import readable
from tests.ui.canvas.random_edits import CHANGES, random_change

SEQUENCES = int(os.environ.get("HYBRIDLAB_SEQUENCES", "15"))
LONGEST = 6
PATIENCE_MS = 60_000

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240 + 3 * SEQUENCES)]

# The component's own session does the edits, as its keys and its mouse do.
EDIT = "all => { const s = document.querySelector('.hl-host').hlSession; for (const one of all) s.edit([one]); }"
HELD = """() => {
    const s = document.querySelector('.hl-host').hlSession;
    const bare = nodes => nodes && nodes.map(({uid, nodes: inner, ...own}) => ({...own, nodes: bare(inner)}));
    return {shown: bare(s.nodes), sent: bare(s.data.nodes), notice: s.notice, undo: s.data.can_undo};
}"""


def test_the_canvas_and_python_hold_the_same_after_random_edits(page: Page) -> None:
    chance = random.Random(20)
    open_design(page, "jamba_mini")
    settled(page)
    first = library.find("jamba_mini").read_text(encoding="utf-8")
    for sequence in range(SEQUENCES):
        text, made, steps, refused = first, [], 0, []
        for _ in range(chance.randint(1, LONGEST)):
            change = random_change(text, chance)
            try:
                changed = make(text, [CHANGES.validate_python(change)])
            except (
                SpecError
            ) as error:  # the canvas sends it all the same, is told why not, and goes on
                refused.append(f"{error.problems[0].sentence()}.")
                made.append(change)
                continue
            if changed != text:  # what changes nothing is no step of undo
                made.append(change)
                steps += 1
                text = changed
        page.evaluate(EDIT, made)
        held = settled_tree(page)
        assert held["notice"] in (None, *refused), (sequence, made, held["notice"])
        assert held["shown"] == held["sent"] == list(readable(text)), (sequence, made)
        page.evaluate(EDIT, [{"do": "undo"}] * steps)
        held = settled_tree(page)
        assert held["shown"] == held["sent"] == list(readable(first)), (sequence, made)
        assert not held["undo"], "everything was undone"
    assert yaml_text(page) == first


def settled_tree(page: Page) -> dict[str, Any]:
    """Wait until Python has every edit; return the tree that is shown and the one that Python sent."""
    page.wait_for_function("() => !document.querySelector('.hl-host').hlSession.pending.length")
    page.wait_for_selector(f'{CANVAS}[data-pending="0"]', timeout=PATIENCE_MS)
    held: dict[str, Any] = page.evaluate(HELD)
    return held
