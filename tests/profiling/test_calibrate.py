"""Calibrations: what was measured beside others' work is measured again when the machine is quiet."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.hardware.others import Others
from hybridlab.profiling import calibrate as room
from hybridlab.profiling.calibrate import calibrate
from hybridlab.trace.calibration import Calibration, kept
from hybridlab.trace.machine import this_cpu

DESIGN = loads(
    "name: small\nwidth: 16\nnodes: [{use: token_embedding, vocab: 16}, {use: mlp}, {use: lm_head, vocab: 16}]\n"
)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Every measuring, which is a count here instead of a time; the home is empty."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))
    told: list[int] = []

    def typical(once: object) -> float:
        told.append(len(told))
        return 1e-3 * (1 + len(told))

    monkeypatch.setattr(room, "_typical", typical)
    return told


def _calibrated() -> Calibration:
    return calibrate(DESIGN, infer(DESIGN, None), this_cpu(1))


def test_what_was_measured_beside_others_is_measured_again(
    measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Others, "cores", lambda self: 1.5)
    first = _calibrated()
    count = len(measured)
    assert set(first.doubtful) == {*first.components, "update_s", "loss_s", "company"}
    assert _calibrated() == first and len(measured) == count  # not again so soon
    monkeypatch.setattr(room, "_AGAIN_SECONDS", -1.0)
    assert _calibrated() == first and len(measured) == count  # nor while others are at work
    monkeypatch.setattr(Others, "cores", lambda self: 0.1)
    second = _calibrated()
    assert len(measured) == 2 * count and not second.doubtful
    assert second.company is not None and second.components.keys() == first.components.keys()
    assert all(second.components[key] != first.components[key] for key in first.components)
    assert _calibrated() == second == kept(1) and len(measured) == 2 * count


def test_what_was_measured_alone_is_sound(
    measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Others, "cores", lambda self: 0.0)
    assert not _calibrated().doubtful and measured
