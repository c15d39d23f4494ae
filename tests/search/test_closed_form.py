"""The benchmark space: arrays against the formulas one by one, and its front against trying every design."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hybridlab.architecture.document import dump, loads
from hybridlab.search.closed_form import ClosedForm, plainly
from hybridlab.search.landscape import ClosedFormLandscape
from hybridlab.search.pareto import hypervolume, non_dominated
from hybridlab.tasks.registry import fit, task

SMALL = (
    ClosedForm(blocks=3, widths=(64, 128), heads=(2, 8)),
    ClosedForm(blocks=2, widths=(96,), heads=(2, 4), mixers=("mamba2", "attention")),
)


@pytest.mark.parametrize("form", SMALL)
def test_the_front_is_that_of_every_design_by_the_plain_formulas(form: ClosedForm) -> None:
    space = form.space
    codes = space.everything()
    assert len(codes) == space.size == len(np.unique(codes, axis=0))
    plain = np.array([plainly(space.design(row), form.blocks) for row in codes])
    np.testing.assert_allclose(form.evaluate(codes), plain, rtol=1e-12)
    small = plain * (-1, 1)
    best = small[non_dominated(small)]
    best = best[np.argsort(best[:, 1])]
    np.testing.assert_allclose(form.front * (-1, 1), best, rtol=1e-12)
    np.testing.assert_allclose(form.reference, small.max(axis=0), rtol=1e-12)
    assert form.hypervolume == pytest.approx(hypervolume(small, small.max(axis=0)))
    np.testing.assert_allclose(form.evaluate(form.front_designs), form.front, rtol=1e-12)


def test_the_whole_space_is_large_and_tried_in_seconds() -> None:
    form = ClosedForm()
    assert form.space.size > 10_000_000
    began = time.process_time()
    front = form.front
    assert time.process_time() - began < 30  # 3 s of processor time on a quiet machine
    assert len(front) > 30
    assert (np.diff(front, axis=0) > 0).all()  # more memory buys more quality all along
    rng = np.random.default_rng(0)
    values = form.evaluate(form.space.random(rng, 5_000)) * (-1, 1)
    assert (values <= form.reference).all()
    joined = np.vstack((front * (-1, 1), values))
    assert hypervolume(joined, form.reference) == pytest.approx(form.hypervolume, rel=1e-12)
    # No corner of the space gives the front away: widths, heads, mixers and recomputation all occur on it.
    for column, size in enumerate(form.space.sizes):
        if not 2 <= column < 10:
            assert len(np.unique(form.front_designs[:, column])) == size
    assert set(np.unique(form.front_designs[:, 2:10])) == {0, 1, 2}


def test_designs_are_architectures_that_open_and_fit_a_task() -> None:
    landscape = ClosedFormLandscape(ClosedForm())
    for design in landscape.hand_designs()[::7]:
        architecture = landscape.architecture(design)
        assert loads(dump(architecture)) == architecture
        fit(architecture, task("mqar"))
