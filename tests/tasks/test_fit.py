"""Architectures meet tasks: what is left out is supplied, and what does not fit is said."""

from __future__ import annotations

import pytest

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import presets
from hybridlab.architecture.model import build
from hybridlab.errors import HybridLabError, SpecError, TaskError
from hybridlab.tasks.registry import catalogue, fit, task, tasks
from tests.tasks.conftest import AVAILABLE


def _sort(name: str) -> tuple[str, str, bool]:
    """Return what fitting looks at: what a task supplies, and whether its answers are ahead."""
    made = task(name)
    return made.input_node()["use"], made.head_node()["use"], made.needs_causal


OF_EACH_SORT = sorted({_sort(name): name for name in reversed(tasks())}.values())


def _arch(*nodes: str, width: int = 16):  # type: ignore[no-untyped-def]
    body = "".join(f"  - {{{node}}}\n" for node in nodes)
    return loads(f"name: x\nwidth: {width}\nnodes:\n{body}")


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_bare_architecture_gets_input_and_head_and_answers(name: str) -> None:
    made = task(name)
    fitted = fit(_arch("use: attention, heads: 2", "use: swiglu"), made)
    assert fitted.nodes[0].use == made.input_node()["use"]
    assert fitted.nodes[-1].use == made.head_node()["use"]
    batch = made.train_batch(0, 2, 0)
    output = build(fitted, made.input_type(), seed=0)(batch.inputs)
    wanted = [
        2 if size == "B" else made.length if size == "L" else size
        for size in made.output_type().shape
    ]
    assert list(output.shape) == wanted
    assert made.loss(output, batch).isfinite()


@pytest.mark.parametrize("preset", [entry.name for entry in presets()])
@pytest.mark.parametrize("name", OF_EACH_SORT)
def test_every_preset_fits_every_sort_of_task_or_says_why_not(preset: str, name: str) -> None:
    made = task(name)
    text = next(entry for entry in presets() if entry.name == preset).text()
    try:
        assert fit(loads(text), made).nodes[-1].use == made.head_node()["use"]
    except HybridLabError as error:
        assert "image" in preset or "causal" in str(error), error


@pytest.mark.parametrize(
    ("name", "nodes", "words"),
    [
        ("python_bytes", ["use: attention, causal: false"], "set causal: true"),
        ("python_bytes", ["use: attention", "use: attention, causal: false"], "nodes[1]"),
        ("digits_sequence", ["use: lstm", "use: classifier, classes: 7"], "classes: 10"),
        ("parity", ["use: lstm", "use: lm_head, vocab: 256"], "lm_head, vocab: 2"),
        ("parity", ["use: lstm", "use: classifier, classes: 2"], "does not answer parity"),
        ("digits_image", ["use: token_embedding, vocab: 9", "use: lstm"], "cannot read the image"),
        ("mqar", ["use: pixel_series", "use: lstm"], "use token_embedding"),
    ],
)
def test_what_does_not_fit_is_a_sentence(name: str, nodes: list[str], words: str) -> None:
    with pytest.raises(TaskError) as caught:
        fit(_arch(*nodes), task(name))
    assert words in str(caught.value)


def test_attention_that_is_not_causal_may_look_at_a_whole_digit() -> None:
    assert fit(_arch("use: attention, causal: false"), task("digits_image"))


def test_errors_of_the_architecture_itself_come_first() -> None:
    with pytest.raises(SpecError, match=r"nodes\[0\]\.heads: 5 does not divide"):
        fit(_arch("use: attention, heads: 5"), task("parity"))


def test_unknown_tasks_are_met_with_the_nearest() -> None:
    with pytest.raises(TaskError, match="did you mean 'parity'"):
        task("pairity")


def test_the_catalogue_is_plain_and_complete() -> None:
    import json

    entries = {
        entry["name"]: entry for entry in json.loads(json.dumps(catalogue(), allow_nan=False))
    }
    assert list(entries)[:3] == ["digits_sequence", "digits_image", "python_bytes"]
    for entry in entries.values():
        assert entry["title"] and entry["summary"].endswith(".") and entry["source"]
        assert entry["baselines"] or entry["name"] not in AVAILABLE
        assert entry["tests"].endswith(".") and entry["default_training"]["steps"] > 0
        for field in entry["params_schema"]["properties"].values():
            assert field["description"].endswith("."), field
    assert (
        entries["python_bytes"]["needs_causal"] and not entries["python_bytes"]["higher_is_better"]
    )
    assert entries["python_bytes"]["metric"] == "test_bits_per_byte"
