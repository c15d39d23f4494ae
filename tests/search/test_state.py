"""A study read as it grows is the study read at once, and its front that of the plain definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybridlab.errors import RunError
from hybridlab.search.description import describe
from hybridlab.search.designs import keep_design
from hybridlab.search.opening import landscape_of
from hybridlab.search.pareto import non_dominated
from hybridlab.search.places import place_of
from hybridlab.search.samplers import SAMPLERS, make_sampler
from hybridlab.search.spec import SearchSpec
from hybridlab.search.state import StudyWatch
from hybridlab.search.study import open_storage, open_study, search
from hybridlab.ui.search.setup import SAMPLERS as PAGE_SAMPLERS

SPEC = SearchSpec.model_validate(
    {
        "name": "small",
        "closed_form": {"blocks": 3, "widths": [64, 96], "heads": [2, 4]},
        "limits": {"peak_bytes": 60 * 2**20},
        "trials": 40,
    }
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))


def test_reading_as_it_grows_is_reading_at_once() -> None:
    landscape = landscape_of(SPEC)
    sampler = make_sampler("random", landscape, seed=3)
    study = open_study(landscape, sampler, storage=open_storage(place_of("s")), name="s")
    with pytest.raises(RunError, match="does not say which search"):
        StudyWatch("s")
    describe(study, SPEC, landscape, sampler="random", seed=3)
    reader = StudyWatch("s")
    assert reader.look().rows == () and reader.look().trace == ()
    for count in (1, 5, 40):
        search(study, landscape, count)
        grown = reader.look()
        assert reader.look() is grown, "nothing changed, so nothing is made again"
        assert len(grown.rows) == grown.ended == count
    study.ask(dict(landscape.space.distributions()))
    grown = reader.look()
    assert grown.count("running") == 1 and grown.ended == 40
    whole = StudyWatch("s").look()
    assert (whole.rows, whole.done, whole.front) == (grown.rows, grown.done, grown.front)
    small = whole.values * whole.signs
    kept = whole.values[:, 1] <= 60 * 2**20
    assert (whole.feasible == kept).all() and 0 < kept.sum() < 40
    expected = small[kept][non_dominated(small[kept])]
    order = np.argsort(expected[:, 0])
    assert whole.small == pytest.approx(expected[order])
    assert whole.trace[-1][0] == 40 and whole.trace[-1][1] > 0
    assert whole.trace_against((0.0, 1e12))[-1][1] > 0


def test_a_study_that_is_not_there_is_told() -> None:
    with pytest.raises(RunError, match="no study"):
        StudyWatch("nothing")


def test_a_design_is_kept_under_its_content() -> None:
    one = keep_design("name: a\n")
    assert keep_design("name: a\n") == one and keep_design("name: b\n") != one
    assert one.read_text(encoding="utf-8") == "name: a\n"


def test_the_page_offers_every_sampler() -> None:
    assert list(PAGE_SAMPLERS) == list(SAMPLERS)
