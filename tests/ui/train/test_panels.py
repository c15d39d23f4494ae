"""Which charts a training has: the rate that weights learnt at is always among them."""

from __future__ import annotations

import pytest

from hybridlab.ui.train.panels import panels


@pytest.mark.parametrize(
    ("names", "metrics", "told"),
    [
        ((), ("learning_rate",), ()),
        (("loss", "learning_rate"), ("learning_rate",), ()),
        (
            ("learning_rate/mixers", "learning_rate/others"),
            ("learning_rate/mixers", "learning_rate/others"),
            ("mixers", "others"),
        ),
    ],
)
def test_the_rate_of_every_group_is_drawn_or_that_of_all(
    names: tuple[str, ...], metrics: tuple[str, ...], told: tuple[str, ...]
) -> None:
    (panel,) = [panel for panel in panels(None, names) if panel.label == "rate"]
    assert (panel.metrics, panel.names) == (metrics, told)
