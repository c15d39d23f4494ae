"""A component's picture is found by watching it: what is known of a few components must be in it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hybridlab.components.base import BuildContext, Component
from hybridlab.components.data_flow import FUNCTION, DataFlow, data_flow
from hybridlab.components.flow_picture import MOST_STEPS, flow_picture
from hybridlab.components.registry import palette
from hybridlab.components.types import sequence


class Gated(Component):
    """Two layers that read the input, and an offset that reads nothing."""

    def __init__(self, width: int = 8) -> None:
        """Create the layers."""
        super().__init__(Component.Params(), BuildContext((sequence(width),), width))
        self.gate, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.unused = nn.Linear(width, width)
        self.offset = nn.Parameter(torch.zeros(width))

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Return sigmoid(gate) * value + exp(offset)."""
        self.unused(x_BLD)
        first, second = self.gate(x_BLD).split(4, dim=-1)
        opened = torch.sigmoid(torch.cat((second, first), dim=-1))
        return opened * self.value(x_BLD) + self.offset.exp()


def flow_of(name: str, inputs: int = 1) -> DataFlow:
    info = palette()[name]
    module = info.cls(info.cls.Params(), BuildContext((sequence(64),) * inputs, 64)).eval()
    return data_flow(module, [torch.zeros(1, 4, 64) for _ in range(inputs)])


def arrows(flow: DataFlow) -> set[tuple[str, str]]:
    labels = {step.id: step.label for step in flow.steps}
    return {(labels[source], labels[reader]) for source, reader in flow.edges}


def test_what_is_read_is_followed_and_what_is_not_is_left_out() -> None:
    flow = data_flow(Gated(), [torch.zeros(2, 4, 8)])
    gate, value = "gate: Linear 8 → 8", "value: Linear 8 → 8"
    assert arrows(flow) == {
        ("input", gate),
        ("input", value),
        (gate, "side by side"),
        ("side by side", "sigmoid"),
        ("sigmoid", "×"),
        (value, "×"),
        ("×", "+"),
        ("+", "output"),
    }


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mamba2", ("conv: DepthwiseConv", "ssd")),
        ("swiglu", ("×", "project_out: Linear 168 → 64")),
    ],
)
def test_known_components_have_their_steps(name: str, wanted: tuple[str, str]) -> None:
    found = arrows(flow_of(name))
    labels = {label for arrow in found for label in arrow}
    assert set(wanted) <= labels
    assert any(source == "input" for source, _ in found)
    assert [reader for _, reader in found].count("output") == 1


def test_every_input_is_in_the_picture() -> None:
    flow = flow_of("cross_attention", inputs=2)
    assert {source for source, _ in arrows(flow)} >= {"input 1", "input 2"}
    assert any(step.kind == FUNCTION for step in flow.steps)


def test_the_picture_is_a_flowchart_that_quotes_its_labels() -> None:
    picture = flow_picture(flow_of("swiglu"))
    assert picture.startswith("```mermaid\nflowchart TD\n") and picture.endswith("```")
    assert '    s0(["input"])' in picture and '["project_in: Linear 64 → 336"]' in picture
    flow = flow_of("swiglu")
    long = DataFlow(flow.steps * (MOST_STEPS // 2), flow.edges)
    assert "too many for a picture" in flow_picture(long) and "`project_in" in flow_picture(long)
