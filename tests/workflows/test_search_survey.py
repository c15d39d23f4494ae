"""What a search is said to take: asking is timed where it is work, beside the trials themselves."""

from __future__ import annotations

from pathlib import Path

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


TRAINED = """
name: small
architecture: ARCHITECTURE
task: parity
training: {task_params: {length: 8, longer: 8}, steps: 90, batch: 4, warmup_steps: 1, device: cpu}
search: {precision: [float32, bfloat16]}
objectives: [val_accuracy, params, measured_step_ms]
sampler: random
"""


def test_what_is_timed_is_part_of_the_price(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("name: small\nwidth: 8\nnodes: [{use: mlp}]\n")
    text = TRAINED.replace("ARCHITECTURE", str(tmp_path / "small.yaml"))
    told = survey({"text": text})
    step_s = told["trial_s"][1] / 90
    least, most = told["timed_s"]
    assert most == pytest.approx(23 * step_s), "twenty-one turns and two to warm up"
    assert least == pytest.approx(most / 9), "of those that halving lets go on"
    plain = survey({"text": text.replace("measured_step_ms", "flops_step")})
    assert plain["timed_s"] == [0, 0] and plain["size"] == 2
