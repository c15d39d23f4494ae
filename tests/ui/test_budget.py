"""What a predicted peak means for a memory, in numbers and in words."""

import pytest

from hybridlab.ui.design.budget import _bar, budget_info

GIB = 1024**3


@pytest.mark.parametrize(
    ("peak", "memory", "words", "verdict", "over"),
    [
        (40 * 1024**2, 16 * GIB, "40 MiB of 16 GiB, under 1 %", "fits", False),
        (4 * GIB, 8 * GIB, "4 GiB of 8 GiB, 50 %", "fits", False),
        (7.6 * GIB, 8 * GIB, "7.6 GiB of 8 GiB, 95 %", "fits barely", False),
        (8 * GIB, 8 * GIB, "8 GiB of 8 GiB, 100 %", "fits barely", False),
        (10 * GIB, 8 * GIB, "10 GiB of 8 GiB, 125 %", "does not fit", True),
        (24 * GIB, 8 * GIB, "24 GiB of 8 GiB, 3.0 times as much", "does not fit", True),
    ],
)
def test_share_and_verdict(
    peak: float, memory: float, words: str, verdict: str, over: bool
) -> None:
    info = budget_info(peak, memory)
    assert info.words.startswith(words)
    assert info.verdict.startswith(verdict)
    assert info.over is over
    drawn = _bar(info)
    assert ("#e5484d" in drawn) is over
    assert "predicted" in drawn and words in drawn
