"""Draws a component's data flow as a Mermaid flowchart, which many viewers of Markdown show as a picture."""

from __future__ import annotations

from hybridlab.components.data_flow import FUNCTION, INPUT, LAYER, OUTPUT, DataFlow, Step

MOST_STEPS = 60
"""Beyond so many steps a picture says less than the equations do; the rest is said to be left out."""
_SHAPES = {INPUT: '(["{}"])', OUTPUT: '(["{}"])', LAYER: '["{}"]', FUNCTION: '[["{}"]]'}
_OPERATION = '("{}")'


def flow_picture(flow: DataFlow) -> str:
    """Return the flowchart, fenced, from inputs above to the output below.

    Layers with weights are boxes, functions with a file of their own have double sides, operations are rounded.
    """
    if len(flow.steps) > MOST_STEPS:
        words = f"{len(flow.steps)} steps, too many for a picture; the layers and functions are: "
        names = dict.fromkeys(step.label for step in flow.steps if step.kind in (LAYER, FUNCTION))
        return words + ", ".join(f"`{name}`" for name in names) + "."
    lines = [f"    {step.id}{_shape(step)}" for step in flow.steps]
    lines += [f"    {source} --> {reader}" for source, reader in flow.edges]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def _shape(step: Step) -> str:
    label = step.label.replace('"', "#quot;")
    return _SHAPES.get(step.kind, _OPERATION).format(label)
