"""What becomes of a call when its handler does what it should not: every end has its name."""

import concurrent.futures
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Serve
from processes import Answer, Server, alive, wait_until

UNRULY = Path(__file__).parent / "handlers" / "unruly.py"


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(UNRULY, args=["--workers", "1", "--timeout", "10s"])


@pytest.fixture
def impatient(serve: Serve) -> Server:
    return serve(UNRULY, args=["--workers", "1", "--timeout", "1s"])


def problem(answer: Answer, kind: str, status: int) -> dict[str, Any]:
    """The problem an answer tells of, which must be of this kind."""
    body: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["type"], answer.status) == (f"urn:exuvia:problem:{kind}", status), body
    assert body["status"] == status
    assert body["error_id"] and body["title"] and body["detail"]
    return body


def still_serves(server: Server) -> None:
    assert server.post("/unruly/echoes", {"value": 42}).json() == 42


def test_an_exception_keeps_its_class_message_and_traceback(server: Server) -> None:
    body = problem(server.post("/unruly/fails", {"depth": 2}), "exception", 500)
    assert body["responsible"] == "guest"
    assert body["exception"]["class"] == "LookupError"
    assert body["exception"]["message"] == "no such thing"
    traceback = body["exception"]["traceback"]
    assert traceback.count('unruly.py", line') == 3
    assert "<exuvia" not in traceback
    # The same id leads to the log.
    assert body["error_id"] in server.log()
    still_serves(server)


def test_a_hidden_exception_is_only_in_the_log(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1", "--expose-errors", "false"])
    answer = server.post("/unruly/fails", {})
    body = problem(answer, "exception", 500)
    assert b"no such thing" not in answer.body
    log = server.log()
    assert body["error_id"] in log and "no such thing" in log


def test_a_segfault_names_the_signal_and_the_line(server: Server) -> None:
    body = problem(server.post("/unruly/segfaults", {}), "crash", 502)
    assert (body["signal"], body["responsible"]) == ("SIGSEGV", "guest")
    assert any(frame["function"] == "segfaults" for frame in body["frames"]), body
    assert all(frame["file"] != "<string>" for frame in body["frames"]), body
    still_serves(server)


def test_an_abort_names_the_signal(server: Server) -> None:
    assert problem(server.post("/unruly/aborts", {}), "crash", 502)["signal"] == "SIGABRT"
    still_serves(server)


@pytest.mark.parametrize("handler", ["spins", "spins_in_c", "blocks_loop", "deadlocks_loop"])
def test_a_handler_that_never_ends_is_stopped_and_shows_where_it_was(
    impatient: Server, handler: str
) -> None:
    began = time.monotonic()
    body = problem(impatient.post(f"/unruly/{handler}", {}), "timeout", 504)
    took = time.monotonic() - began
    assert (body["limit_ms"], body["started"]) == (1000, True)
    # The limit, 250 ms for an answer, the stacks: and what a busy machine adds.
    assert 0.95 < took < 8
    assert any(frame["function"] == handler for frame in body["frames"]), body
    still_serves(impatient)


def test_a_cancelled_task_ends_at_its_deadline_and_its_worker_lives(impatient: Server) -> None:
    before = impatient.workers()
    body = problem(impatient.post("/unruly/shy", {}), "timeout", 504)
    assert body["started"] is True
    wait_until("its output", lambda: "cancelled, cleaning up" in impatient.log())
    assert impatient.workers() == before


def test_a_task_that_ignores_its_cancelling_costs_the_worker(impatient: Server) -> None:
    before = impatient.workers()
    problem(impatient.post("/unruly/stubborn", {}), "timeout", 504)
    still_serves(impatient)
    assert set(before).isdisjoint(impatient.workers())


def test_os_exit_is_an_outcome_with_its_status(server: Server) -> None:
    body = problem(server.post("/unruly/exits", {"status": 7}), "exited", 502)
    assert body["exit_status"] == 7
    still_serves(server)


def test_sys_exit_is_an_exception_and_the_worker_lives(server: Server) -> None:
    before = server.workers()
    body = problem(server.post("/unruly/quits", {}), "exception", 500)
    assert body["exception"]["class"] == "SystemExit"
    assert server.workers() == before


def test_fifty_megabytes_of_output_are_cut_and_the_call_succeeds(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1", "--max-output", "64KiB"])
    assert server.post("/unruly/floods", {"megabytes": 50}).json() == 50
    wait_until("the cut", lambda: "rest of this call's output is dropped" in server.log())
    assert len(server.log()) < 200_000
    still_serves(server)


def test_output_reaches_the_log_with_stream_worker_and_call(server: Server) -> None:
    call_id = server.post("/unruly/prints", {"text": "good day"}).headers["exuvia-call-id"]
    wait_until("the output", lambda: "GOOD DAY" in server.log())
    lines = {line for line in server.log().splitlines() if "good day" in line.lower()}
    assert len(lines) == 2
    assert all(call_id in line for line in lines), lines
    assert {"stdout" in line for line in lines} == {True, False}


def test_a_result_that_json_cannot_hold_is_named_by_its_path(server: Server) -> None:
    body = problem(server.post("/unruly/unwritable", {}), "result", 500)
    assert 'result["a"][2]' in body["detail"]
    still_serves(server)


def test_a_sync_handler_may_run_a_loop_of_its_own(server: Server) -> None:
    assert server.post("/unruly/nests_loop", {}).json() == "nested"
    assert server.post("/unruly/naps", {"tag": 3}).json()["tag"] == 3


def test_neighbours_of_a_blocked_loop_are_told_to_come_back(serve: Serve) -> None:
    args = ["--workers", "1", "--timeout", "10s"]
    server = serve(UNRULY, args=[*args, "--route-timeout", "unruly/blocks_loop=1s"])
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        neighbours = [threads.submit(server.post, "/unruly/naps", {"ms": 6000}) for _ in range(3)]
        time.sleep(0.3)
        problem(server.post("/unruly/blocks_loop", {}), "timeout", 504)
        for neighbour in neighbours:
            body = problem(neighbour.result(), "worker_lost", 503)
            assert body["retryable"] is True
            assert neighbour.result().headers["retry-after"] == "0"


def test_async_calls_share_a_worker_and_sync_calls_do_not(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1"])
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for handler, least, most in (("naps", 0.3, 1.5), ("nap", 2.4, 20.0)):
            began = time.monotonic()
            body = {"ms": 300}
            calls = [threads.submit(server.post, f"/unruly/{handler}", body) for _ in range(8)]
            assert all(call.result().status == 200 for call in calls)
            assert least <= time.monotonic() - began < most, handler


def test_a_full_queue_says_come_back_and_a_queued_call_waits_no_longer_than_its_limit(
    serve: Serve,
) -> None:
    args = ["--workers", "1", "--queue", "2", "--route-timeout", "unruly/nap=1500ms"]
    server = serve(UNRULY, args=args)
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        slow = threads.submit(server.post, "/unruly/nap", {"ms": 1200})
        time.sleep(0.3)
        calls = [threads.submit(server.post, "/unruly/nap", {"ms": 1200}) for _ in range(5)]
        assert slow.result().status == 200
        answers = [call.result() for call in calls]
    rejected = [answer for answer in answers if answer.json()["type"].endswith("rejected")]
    late = [answer for answer in answers if answer.json()["type"].endswith("timeout")]
    assert (len(rejected), len(late)) == (3, 2)
    for answer in rejected:
        assert int(answer.headers["retry-after"]) >= 1
        problem(answer, "rejected", 503)
    # One began when the slow call ended and was stopped, one never began.
    assert sorted(answer.json()["started"] for answer in late) == [False, True]
    assert "exuvia_queue_rejected_total 3" in server.get("/metrics").body.decode()


def test_what_a_handler_started_dies_with_its_worker(server: Server) -> None:
    sleeper = server.post("/unruly/forks", {}).json()
    assert alive(sleeper)
    problem(server.post("/unruly/exits", {}), "exited", 502)
    wait_until("the orphan to end", lambda: not alive(sleeper))


def test_a_caller_that_leaves_takes_its_call_along(server: Server) -> None:
    with pytest.raises(TimeoutError):
        server.post("/unruly/shy", {"seconds": 60}, timeout=0.5)
    wait_until("the cancelling", lambda: "cancelled, cleaning up" in server.log())
    still_serves(server)
