"""How many parameters the model of an architecture has, without memory for them."""

from __future__ import annotations

from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.infer import infer
from hybridlab.architecture.model import GraphModel
from hybridlab.architecture.spec import Architecture
from hybridlab.components.types import TensorType
from hybridlab.errors import SpecError


def count_parameters(architecture: Architecture, input_type: TensorType | None = None) -> int:
    """Count the parameters of an architecture, shared ones once, on tensors that hold no numbers.

    Raises:
        SpecError: the architecture has errors.
    """
    inference = infer(architecture, input_type)
    if inference.errors:
        raise SpecError(inference.errors)
    with QuickFakeMode():
        model = GraphModel(architecture, inference, None)
    return sum(parameter.numel() for parameter in model.parameters())
