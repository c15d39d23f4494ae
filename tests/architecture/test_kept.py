"""Answers kept between processes: the same as fresh ones, new with other sources, unharmed by what a kill leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hybridlab.architecture import fake_run, kept
from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import infer
from hybridlab.architecture.kept import keeping
from hybridlab.trace import component_cost
from hybridlab.trace.predict import predict

DESIGN = loads(
    "name: x\nwidth: 12\nnodes:\n  - {use: token_embedding, vocab: 8}\n  - {use: lstm}\n"
    "  - {use: attention, heads: 2}\n  - {use: moe, experts: 2, top_k: 1}\n  - {use: lm_head}\n"
)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What this process remembers, away before and after."""

    def forget() -> None:
        fake_run.run_fake.cache_clear()
        component_cost._trace.cache_clear()

    forget()
    yield
    forget()


def again() -> None:
    fake_run.run_fake.cache_clear()
    component_cost._trace.cache_clear()


def test_kept_answers_are_the_fresh_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, inferred = predict(DESIGN, batch=2, length=16), infer(DESIGN, None, batch=2, length=16)
    again()
    with keeping(tmp_path):
        assert predict(DESIGN, batch=2, length=16) == fresh
    (file,) = tmp_path.glob("*.jsonl")
    assert len(file.read_text().splitlines()) > 6
    again()

    def never(*arguments: object) -> None:
        raise AssertionError("it was kept")

    monkeypatch.setattr(component_cost, "_traced", never)
    monkeypatch.setattr(fake_run, "_run_fake", never)
    with keeping(tmp_path):
        assert predict(DESIGN, batch=2, length=16) == fresh
        with keeping(tmp_path):
            assert infer(DESIGN, None, batch=2, length=16).edges == inferred.edges
        again()
        assert predict(DESIGN, batch=2, length=16) == fresh
        with pytest.raises(AssertionError, match="it was kept"):
            predict(DESIGN, batch=3, length=16)
    again()
    with pytest.raises(AssertionError, match="it was kept"):
        predict(DESIGN, batch=2, length=16)


def test_other_sources_begin_anew_and_half_a_line_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with keeping(tmp_path):
        kept.add("one", "1")
    (file,) = tmp_path.glob("*.jsonl")
    with file.open("a") as opened:
        opened.write('["cut sh')
    with keeping(tmp_path):
        assert kept.known("one") == "1" and kept.known("two") is None
        kept.add("two", "2")
    with keeping(tmp_path):
        assert (kept.known("one"), kept.known("two")) == ("1", "2")
    assert kept.known("one") is None, "outside a block nothing is kept"
    monkeypatch.setattr(kept, "_sources", lambda: "other")
    with keeping(tmp_path):
        assert kept.known("one") is None
    assert kept._sources() == "other"


def test_a_folder_that_cannot_be_written_keeps_for_this_block(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with keeping(tmp_path / "file"):
        kept.add("one", "1")
        assert kept.known("one") == "1"
    assert kept.known("one") is None
