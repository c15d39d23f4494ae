"""The warm processes: answers are kept and shared, nobody waits for ever, and what dies is started again."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from hybridlab.ui.worker_pool import WorkerPool

WORKER = """
import json, os, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    if asked["verb"] == "die":
        os._exit(3)
    if asked["verb"] == "wrong":
        answer = {"problems": [{"path": "nodes[0]", "message": "is wrong"}]}
    else:
        time.sleep(asked["args"].get("s", 0))
        answer = {"value": {"pid": os.getpid(), "at": time.monotonic(), **asked["args"]}}
    print(json.dumps({"id": asked["id"], **answer}), flush=True)
"""


@pytest.fixture
def pool():
    made = WorkerPool(command=[sys.executable, "-c", WORKER], timeout_s=30)
    yield made
    made.close()


def test_an_answer_is_kept(pool) -> None:
    first = pool.submit("x", {"a": 1}).result(30)
    assert first.value["a"] == 1
    assert pool.ask("x", {"a": 1}) is first


def test_the_same_question_is_worked_on_once(pool) -> None:
    futures = [pool.submit("x", {"s": 0.3}, owner=f"session {n}") for n in range(8)]
    assert len({id(future.result(30)) for future in futures}) == 1


def test_nobody_waits_longer_than_asked(pool) -> None:
    pool.submit("warm", {}).result(30)
    began = time.monotonic()
    assert pool.ask("x", {"s": 1.0}, wait_s=0.05) is None
    assert time.monotonic() - began < 0.8


def test_a_long_question_does_not_hold_up_another_session(pool) -> None:
    pool.submit("warm", {"n": 1}).result(30)
    slow = pool.submit("x", {"s": 3.0}, owner="one")
    quick = pool.submit("x", {"s": 0.0}, owner="two").result(30)
    assert quick.value["s"] == 0.0
    assert not slow.done()


def test_a_newer_question_of_a_session_replaces_its_waiting_one() -> None:
    pool = WorkerPool(size=1, command=[sys.executable, "-c", WORKER])
    try:
        pool.submit("x", {"s": 0.5, "n": 0})
        time.sleep(0.1)
        older = pool.submit("x", {"n": 1}, owner="me")
        shared = pool.submit("x", {"n": 2}, owner="me")
        also = pool.submit("x", {"n": 2}, owner="you")
        newest = pool.submit("x", {"n": 3}, owner="me")
        assert "replaced" in older.result(5).sentence
        assert newest.result(30).value["n"] == 3
        assert shared is also
        assert also.result(30).value["n"] == 2
    finally:
        pool.close()


def test_a_process_that_dies_is_told_and_started_again(pool) -> None:
    before = pool.submit("x", {"n": 1}).result(30).value["pid"]
    assert "ended unexpectedly" in pool.submit("die", {}).result(30).sentence
    assert pool.submit("x", {"n": 2}).result(30).value["pid"] != before


def test_a_failure_can_be_read_and_is_asked_again_later() -> None:
    pool = WorkerPool(command=[sys.executable, "-c", WORKER], retry_s=1.0)
    try:
        failure = pool.submit("die", {}).result(30)
        assert failure.failed
        assert pool.ask("die", {}) is failure, "a page that asks again finds it"
        time.sleep(1.0)
        assert pool.ask("die", {}) is None
    finally:
        pool.close()


def test_problems_are_kept_so_that_a_slow_question_with_problems_ends(pool) -> None:
    answer = pool.submit("wrong", {}).result(30)
    assert pool.ask("wrong", {}) is answer


def test_problems_arrive_as_problems(pool) -> None:
    answer = pool.submit("wrong", {}).result(30)
    assert answer.value is None
    assert answer.sentence == "nodes[0]: is wrong"


def test_a_question_that_takes_too_long_is_stopped_with_a_sentence(pool) -> None:
    answer = pool.submit("x", {"s": 60}, timeout_s=1).result(30)
    assert "took longer than 1 s" in answer.sentence
    assert pool.submit("x", {"n": 1}).result(30).value["n"] == 1


def test_a_program_that_does_not_start_is_a_sentence() -> None:
    pool = WorkerPool(command=["/does/not/exist"])
    try:
        assert "could not be started" in pool.submit("x", {}).result(30).sentence
    finally:
        pool.close()


def test_a_closed_pool_answers_at_once(pool) -> None:
    pool.close()
    assert pool.submit("x", {}).result(5).problems


def test_many_sessions_at_once_all_get_their_own_answer(pool) -> None:
    got: dict[int, int] = {}

    def session(number: int) -> None:
        got[number] = pool.submit("x", {"n": number}, owner=str(number)).result(60).value["n"]

    threads = [threading.Thread(target=session, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {n: n for n in range(30)}


@pytest.fixture
def calm_pool():
    made = WorkerPool(command=[sys.executable, "-c", WORKER], calm_s=0.4)
    yield made
    made.close()


def test_questions_in_the_background_wait_until_nobody_else_has_asked_for_a_while(
    calm_pool,
) -> None:
    for number in range(2):  # both processes are there
        calm_pool.submit("x", {"s": 0.3, "warm": number})
    behind = [calm_pool.submit("x", {"behind": n}, background=True) for n in range(3)]
    asked = [calm_pool.submit("x", {"s": 0.1, "n": n}).result(30) for n in range(6)]
    assert not any(future.done() for future in behind)
    last = max(answer.value["at"] for answer in asked)
    assert all(future.result(30).value["at"] > last + 0.2 for future in behind)


def test_a_question_in_the_background_comes_forward_when_somebody_asks_it(calm_pool) -> None:
    calm_pool.submit("x", {"s": 0.5, "warm": 1}, owner="you")
    calm_pool.submit("x", {"other": 1}, background=True)
    behind = calm_pool.submit("x", {"same": 1}, background=True)
    time.sleep(0.1)
    assert not behind.done()
    asked = calm_pool.submit("x", {"same": 1}, owner="me")
    assert asked is behind
    assert asked.result(30).value["same"] == 1


def test_a_pool_that_nobody_asks_works_in_the_background_in_one_process(calm_pool) -> None:
    futures = [calm_pool.submit("x", {"s": 0.1, "n": n}, background=True) for n in range(4)]
    assert len({future.result(30).value["pid"] for future in futures}) == 1
