"""What the estimate of a training leaves out is said beside it."""

from __future__ import annotations

from hybridlab.planning.precision.record import Measures, Precisions
from hybridlab.ui.train.left_out import left_out


def precisions(*, measured: bool) -> dict[str, object]:
    errors = {"loss_error": 1e-5, "error": 6e-4}
    took = Measures(**errors, time=1.25, saved_bytes=2**20, plain_saved_bytes=2**21)
    made = Precisions(fingerprint="x", device="cpu", training=True, formats={"a": "bfloat16"})
    return made.model_copy(update={"measured": took if measured else None}).as_dict()


def test_nothing_is_said_where_nothing_is_left_out() -> None:
    assert left_out({"batch": 4, "precision": "float32", "plan": {"any": 1}, "fusion": None}) == ""


def test_formats_are_left_out_and_what_was_measured_of_them_is_said() -> None:
    said = left_out({"precisions": precisions(measured=True), "fusion": {"any": 1}})
    assert "without the fusion and the formats of single components" in said
    assert "1.25 times its time without them and kept 1 MiB for backward instead of 2 MiB" in said
    assert "measured" not in left_out({"precisions": precisions(measured=False)})
    assert left_out({"precisions": "nonsense"}).startswith("Predicted without the formats")


def test_beside_a_plan_the_memory_is_the_plans() -> None:
    said = left_out({"plan": {"any": 1}, "tuning": {"any": 1}, "precision": "bfloat16"})
    assert "time is predicted without the tuning and arithmetic in bfloat16" in said
    assert "the memory is the plan's" in said and "knows nothing" not in said
    both = left_out({"plan": {"any": 1}, "precisions": precisions(measured=False)})
    assert "A plan knows nothing of formats of single components" in both
