"""A design tried again: with seeds of its own, as often as asked, and its spread is known then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from hybridlab.errors import RunError
from hybridlab.search.again import SEED, try_again
from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.description import TRIALS, describe
from hybridlab.search.drive import Here, drive
from hybridlab.search.insight import standard_errors
from hybridlab.search.landscape import ClosedFormLandscape, Outcome
from hybridlab.search.leases import Leases
from hybridlab.search.samplers import make_sampler
from hybridlab.search.space import Codes
from hybridlab.search.spec import search_of
from hybridlab.search.study import close, design_of, open_storage, open_study

SPEC = search_of("name: s\nclosed_form: {blocks: 2}\n")


class Noisy(ClosedFormLandscape):
    """A closed form whose quality goes by the seed too."""

    def measure(self, row_P: Codes, seed: int) -> Outcome:
        quality, peak_bytes = super().measure(row_P, seed).values
        return Outcome((quality + 0.01 * np.random.default_rng(seed).normal(), peak_bytes))


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_design_is_tried_again_with_other_seeds(tmp_path: Path, kind: str) -> None:
    place = str(tmp_path / "s.journal") if kind == "journal" else f"sqlite:///{tmp_path}/s.sqlite"
    landscape = Noisy(ClosedForm(blocks=2))
    sampler = make_sampler("cost_aware", landscape)
    study = open_study(landscape, sampler, storage=open_storage(place), name="s")
    describe(study, SPEC, landscape, sampler="cost_aware", seed=7, rungs=())
    study.set_user_attr(TRIALS, 4)
    leases = Leases(place, "s")
    drive(study, landscape, leases, 4, Here(landscape, 7))
    with pytest.raises(RunError, match="only a trial that has values"):
        try_again(study, 9, 1)
    try_again(study, 1, 3)
    assert study.user_attrs[TRIALS] == 7
    drive(study, landscape, leases, 7, Here(landscape, 7))
    leases.leave()
    every = study.trials
    assert [one.number for one in every] == list(range(7))
    assert {one.state for one in every} == {TrialState.COMPLETE}
    again = every[4:]
    assert all(design_of(one) == design_of(every[1]) for one in again)
    assert [one.user_attrs[SEED] for one in again] == [11, 12, 13], "which no other trial has"
    values = np.array([one.values[0] for one in every])
    assert len({one.values[1] for one in [every[1], *again]}) == 1 and len(set(values[4:])) == 3
    errors, freedom = standard_errors([design_of(one) for one in every], values)
    assert freedom >= 3 and errors[1] == pytest.approx(
        np.std(values[[1, 4, 5, 6]], ddof=1) / 2, rel=1e-9
    )
    close(study)
