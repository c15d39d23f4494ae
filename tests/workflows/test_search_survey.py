"""What a search is said to take: asking is timed where it is work, beside the trials themselves."""

from __future__ import annotations

import pytest

from hybridlab.search.cost_aware import CostAware
from hybridlab.workflows.search_survey import survey

FORMULA = "name: small\nclosed_form: {blocks: 3, widths: [64, 96]}\ntrials: 40\n"


def test_asking_is_timed_behind_the_hand_designs(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    choose = CostAware._chosen

    def counted(self, rng, done, *rest):
        chosen.append(len(done))
        return choose(self, rng, done, *rest)

    monkeypatch.setattr(CostAware, "_chosen", counted)
    told = survey({"text": FORMULA})
    assert len(chosen) >= 8, "what is timed are designs that the sampler works out"
    assert min(chosen[-8:]) > 20, "with half of the trials there already"
    assert told["ask_s"] > 0 and told["trial_s"][0] > 0 and told["asks_at_once"]
    random = survey({"text": FORMULA + "sampler: random\n"})
    assert random["ask_s"] > 0 and len(chosen) < 40


def test_a_grid_that_is_soon_done_has_a_price_too() -> None:
    told = survey({"text": FORMULA.replace("trials: 40", "sampler: grid\ntrials: 4")})
    assert told["ask_s"] >= 0 and told["trial_s"][0] >= 0
