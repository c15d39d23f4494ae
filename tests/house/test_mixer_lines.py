"""The mixers' benchmark calls a line met where it is, and not where it is not."""

from __future__ import annotations

import pytest

from benchmarks.mixer_lines import Line, Row, StepRow, judged


def row(subject: str, form: str, source: str, length: int, ms: float, **about: object) -> Row:
    part = "layer" if about.pop("layer", False) else "recurrence"
    seconds = [ms / 1e3 * drift for drift in (1.0, 1.4, 0.8)]
    return Row(subject, part, form, source, length, seconds, **about)  # type: ignore[arg-type]


def only(*rows: Row) -> Line:
    (line,) = judged(rows, [])
    return line


@pytest.mark.parametrize(("ms", "met"), [(7.4, True), (7.6, False)])
def test_a_named_share_is_asked_of_a_form_that_computes_less(ms: float, met: bool) -> None:
    peer = ("naive_chunk_simple_gla", "fla", 1024, 10.0)
    ours = row("gated linear attention", "ours", "ours", 1024, ms)
    line = only(ours, row("gated linear attention", *peer, same=False))
    assert line.figure == pytest.approx(ms / 10)
    assert (line.limit, line.met) == (0.75, met)
    assert not list(judged([row("x", "ours", "ours", 1024, 99.0), row("x", *peer, same=False)], []))


@pytest.mark.parametrize(("ms", "loops", "met"), [(10.4, False, True), (10.6, False, False)])
def test_no_peer_is_faster(ms: float, loops: bool, met: bool) -> None:
    peer = row("mlstm", "xLSTMLayer", "transformers", 1024, 10.0, layer=True)
    assert only(row("mlstm", "ours", "ours", 1024, ms, layer=True), peer).met is met


@pytest.mark.parametrize(("ms", "met"), [(0.99, True), (1.01, False)])
def test_a_loop_over_time_is_ten_times_slower(ms: float, met: bool) -> None:
    peer = row("rg_lru", "RecurrentBlock", "transformers", 1024, 10.0, loops=True)
    assert only(row("rg_lru", "ours", "ours", 1024, ms), peer).met is met


def test_what_was_skipped_or_is_of_another_length_is_not_judged() -> None:
    peer = row("mamba", "MambaMixer", "transformers", 1024, 1.0)
    peer.seconds = []
    short = row("mamba", "MambaMixer", "transformers", 256, 1.0)
    ours = [row("mamba", "ours", "ours", length, 9.0) for length in (256, 1024)]
    assert not list(judged([peer, short, *ours], []))


@pytest.mark.parametrize(("ms", "met"), [(4.9, True), (5.0, False)])
def test_what_claims_to_be_linear_grows_little_more_than_that(ms: float, met: bool) -> None:
    rows = [
        row("gru", "ours", "ours", length, at, layer=True, linear=True)
        for length, at in ((1024, 1.0), (4096, ms))
    ]
    assert only(*rows).met is met
    assert not list(judged([row(r.subject, "ours", "ours", r.length, r.ms) for r in rows], []))


def test_a_naive_form_is_not_faster() -> None:
    ours = row("gru", "ours", "ours", 256, 2.0)
    assert only(ours, row("gru", "naive", "naive", 256, 2.1)).met
    assert not only(ours, row("gru", "naive", "naive", 256, 1.9)).met


def test_steps_of_a_state_that_does_not_grow_take_the_same_time() -> None:
    assert [line.met for line in judged([], [StepRow("gru", {8: 1.0, 4096: 1.2}, False)])] == [True]
    assert [line.met for line in judged([], [StepRow("gru", {8: 1.4, 4096: 1.0}, False)])] == [
        False
    ]
    assert not list(judged([], [StepRow("attention", {8: 1.0, 4096: 9.0}, True)]))


def test_steps_of_a_window_are_compared_once_it_is_full() -> None:
    times = {8: 1.0, 64: 1.1, 512: 2.0, 4096: 2.2}
    (line,) = judged([], [StepRow("window 128", times, False, full_from=512)])
    assert line.met and line.figure == pytest.approx(1.1) and "from 512 on" in line.what
    (line,) = judged([], [StepRow("window 128", times | {4096: 2.7}, False, full_from=512)])
    assert not line.met
    assert not list(judged([], [StepRow("window 4096", times, False, full_from=4096)]))
