"""The client of the warm processes: what it asks, what it keeps for the next start, what it does when that fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hybridlab.architecture.document import contents
from hybridlab.errors import HybridLabError, Problem
from hybridlab.ui import predictions
from hybridlab.ui.predictions import Shapes
from hybridlab.ui.worker_pool import Answer


class Asked:
    """Stands for the pool: notes what was asked, answers as told."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.questions = answer, list[tuple[str, Mapping[str, Any], str]]()
        self.beside: Mapping[str, Any] | None = None

    def submit(self, verb: str, args: Mapping[str, Any], *, owner: str = "") -> Future[Answer]:
        self.questions.append((verb, args, owner))
        future: Future[Answer] = Future()
        future.set_result(self.answer)
        return future

    def ask(
        self,
        verb: str,
        args: Mapping[str, Any],
        *,
        owner: str,
        wait_s: float,
        beside: Mapping[str, Any] | None = None,
    ) -> Answer | None:
        self.beside = beside
        self.submit(verb, args, owner=owner)
        return self.answer if wait_s else None


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYBRIDLAB_HOME", str(tmp_path))

    def answer(given: Answer) -> Asked:
        pool = Asked(given)
        monkeypatch.setattr(predictions, "pool", lambda: pool)
        return pool

    return answer


def kept(verb: str) -> list[dict[str, Any]]:
    return predictions._kept.__wrapped__(verb)


def test_a_question_carries_the_task_its_parameters_and_the_batch(asked) -> None:
    pool = asked(Answer({"edges": {}}))
    shapes = Shapes("mqar", (("pairs", 8), ("length", 64)), 16)
    assert predictions.check("text", shapes, "me") is None, "nobody waits without saying so"
    found = predictions.predict("text", shapes, "me", 1.0)
    assert found is pool.answer
    args = {"text": "text", "task": "mqar", "task_params": {"pairs": 8, "length": 64}, "batch": 16}
    assert pool.questions == [("check", args, "me"), ("predict", args, "me")]
    assert pool.beside == {"content": None}, "nobody has read this text"


def test_what_was_read_goes_along_so_that_it_is_not_read_again(asked) -> None:
    pool = asked(Answer({"edges": {}}))
    content = contents("name: x\nnodes: [{use: attention}]\n")[0]
    predictions.check("name: x\nnodes: [{use: attention}]\n", Shapes(), "me")
    assert pool.beside == {"content": content}


def test_the_palette_is_asked_for_once_and_then_read_from_the_home(asked, tmp_path) -> None:
    pool = asked(Answer([{"name": "lstm"}]))
    assert kept("catalogue") == [{"name": "lstm"}]
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name.startswith("catalogue-")
    assert json.loads(file.read_text()) == [{"name": "lstm"}]
    assert kept("catalogue") == [{"name": "lstm"}]
    assert [verb for verb, _, _ in pool.questions] == ["catalogue"]


def test_a_spoilt_file_is_asked_for_again(asked, tmp_path) -> None:
    pool = asked(Answer([{"name": "parity"}]))
    kept("tasks")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text('[{"name": "par')
    assert kept("tasks") == [{"name": "parity"}]
    assert len(pool.questions) == 2
    assert json.loads(file.read_text()) == [{"name": "parity"}]


def test_a_home_that_cannot_be_written_costs_only_time(asked, tmp_path) -> None:
    asked(Answer([{"name": "lstm"}]))
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert kept("catalogue") == [{"name": "lstm"}]


def test_a_palette_that_cannot_be_made_is_an_error_with_its_sentence(asked, tmp_path) -> None:
    asked(Answer(problems=(Problem("", "torch is missing"),)))
    with pytest.raises(HybridLabError, match="torch is missing"):
        kept("catalogue")
    assert not (tmp_path / "cache").exists(), "a failure is not kept"


def test_problems_of_a_check_are_read_back_whole() -> None:
    problem = Problem("nodes[1].heads", "does not divide", "a divisor of 64", "5", "take 4")
    assert predictions.problems_of({"problems": [problem.as_dict()]}) == [problem]
