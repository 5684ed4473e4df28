"""What tables and streams do to the server when a handler or a client means no good.

No call hangs, a failure says what it is, neighbours are unharmed, and nothing is left over:
no descriptor, no map, no process.
"""

import http.client
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Call, Serve
from processes import Server, held, held_at_rest, serving, wait_for_rest, wait_until
from programs import Run, lines
from table_formats import CSV, FILE, FORMATS, NDJSON, PARQUET, STREAM, as_stream

HANDLERS = Path(__file__).parent / "handlers/tables_adversary.py"
PROGRAM = f"A = {str(HANDLERS)!r}\nN = 'tables_adversary:'\n"
JSON = "application/json"
CUT_OFF = (http.client.IncompleteRead, ConnectionError)

# A payload of 100 MB and one that only just needs memory of its own.
HUGE = as_stream(pa.table({"x": np.zeros(100 << 17)}))
ROWS = pa.table({"x": np.arange(20_000.0)})
MEMORY = as_stream(ROWS)


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server with one worker for most tests."""
    command = [str(exuvia_bin), "serve", str(HANDLERS), "--port", "0", "--workers", "1"]
    command += ["--timeout", "15s", "--route-timeout", "tables_adversary/blocks=1s"]
    for name in ("ends_when_cancelled", "count_later"):
        command += ["--route-timeout", f"tables_adversary/{name}=2s"]
    command += ["--max-body", "160MiB", "--python", str(project_python)]
    with serving(command) as running:
        yield running


def path_of(name: str) -> str:
    return f"/tables_adversary/{name}"


def give(server: Server, name: str, raw: bytes, accept: str = JSON, media: str = STREAM) -> Any:
    headers = {"content-type": media, "accept": accept}
    return server.post(path_of(name), raw=raw, headers=headers)


def begun(
    server: Server, name: str, arguments: Any = None, accept: str = STREAM
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Ask for a stream and read its first byte."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    headers = {"content-type": JSON, "accept": accept}
    connection.request("POST", path_of(name), json.dumps(arguments or {}).encode(), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    assert len(answer.read(1)) == 1
    return connection, answer


def leave(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
    answer.close()
    connection.close()


def rest_of(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> bytes:
    with closing(connection):
        return answer.read()


def warm(server: Server) -> int:
    """Let host and worker have everything loaded; give the worker."""
    for accept in (STREAM, JSON):
        assert give(server, "same", MEMORY, accept).status == 200
    [worker] = server.workers()
    return worker


# === generators that misbehave ===


@pytest.mark.parametrize("name", ["raises", "raises_later"])
def test_what_fails_before_the_first_piece_is_a_problem_and_later_breaks_off(
    server: Server, name: str
) -> None:
    worker = warm(server)
    answer = server.post(path_of(name), {"when": "first"})
    assert answer.status == 500 and "ouch first" in answer.json()["detail"]
    for when in ("midway", "finally"):
        connection, begin = begun(server, name, {"when": when}, JSON)
        with pytest.raises(CUT_OFF):
            rest_of(connection, begin)
    assert server.workers() == [worker]


def test_what_ends_programs_ends_a_stream_and_no_worker(server: Server) -> None:
    worker = warm(server)
    for how in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration"):
        with pytest.raises(CUT_OFF):
            rest_of(*begun(server, "leaves", {"how": how}))
    with pytest.raises(CUT_OFF):
        rest_of(*begun(server, "itself", accept=JSON))
    assert server.post(path_of("pid")).json() == worker


def test_a_stream_is_no_array(server: Server) -> None:
    for name in ("few", "ticks"):
        answer = server.post(path_of(name), {}, headers={"accept": "application/x-npy"})
        assert (answer.status, answer.json()["type"]) == (500, "urn:exuvia:problem:result")


def test_a_stream_of_nothing_is_a_document_all_the_same(server: Server) -> None:
    forms = {form.media: form.read for form in FORMATS.values()}
    empty: dict[str, Any] = {JSON: [], JSON + "; table=rows": [], JSON + "; table=columns": {}}
    for media in (STREAM, FILE, PARQUET, *empty):
        answer = server.post(path_of("nothing"), {}, headers={"accept": media})
        found = answer.json() if media in empty else forms[media](answer.body)
        assert found == empty.get(media, []), media


def test_one_who_leaves_ends_every_kind_of_stream(server: Server, tmp_path: Path) -> None:
    warm(server)
    before = {pid: held_at_rest(pid) for pid in (server.pid, *server.workers())}
    note = tmp_path / "note"
    streams: list[tuple[str, Any]] = [("endless", {}), ("endless_later", {}), ("ignores", {})]
    streams += [("ends_when_cancelled", {}), ("cleans_up", {"note": str(note)})]
    for name, arguments in streams:
        values = name == "ends_when_cancelled"
        leave(*begun(server, name, arguments, NDJSON if values else STREAM))
        assert server.post(path_of("pid"), timeout=10).json() in before, name
    wait_until("the cleanup", note.exists)
    assert note.read_text() == "done"
    for pid, rest in before.items():
        wait_for_rest(pid, rest)


def test_a_stream_that_takes_a_cancel_for_its_end_harms_no_neighbour(server: Server) -> None:
    worker = warm(server)
    with ThreadPoolExecutor() as pool:
        naps = [pool.submit(server.post, path_of("nap"), {"seconds": 5}) for _ in range(3)]
        begin = time.monotonic()
        with pytest.raises(CUT_OFF):
            rest_of(*begun(server, "ends_when_cancelled", accept=NDJSON))
        assert time.monotonic() - begin < 4
        assert [nap.result().json() for nap in naps] == [worker] * 3


def test_a_stream_that_blocks_between_pieces_is_ended_at_its_deadline(server: Server) -> None:
    begin = time.monotonic()
    with pytest.raises(CUT_OFF):
        rest_of(*begun(server, "blocks"))
    assert time.monotonic() - begin < 10
    assert server.post(path_of("pid")).status == 200


def test_fifty_streams_nobody_reads_leave_room_for_others(server: Server) -> None:
    worker = warm(server)
    before = held_at_rest(server.pid)
    streams = [begun(server, "endless_later") for _ in range(50)]
    assert server.post(path_of("pid"), timeout=10).json() == worker
    # What is made waits in buffers of a few hundred KiB each.
    assert memory(server.pid) < 200
    for each in streams:
        leave(*each)
    wait_for_rest(server.pid, before)
    assert server.post(path_of("nap"), {"seconds": 0}).json() == worker


def memory(pid: int) -> float:
    """Give the resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# === what becomes of streams when workers come and go ===


def test_streams_outlive_the_recycling_of_their_worker(serve: Serve) -> None:
    server = serve(HANDLERS, args=["--workers", "1", "--max-calls", "2"])
    [worker] = server.workers()
    stream = begun(server, "ticks", {"count": 40}, NDJSON)
    assert server.post(path_of("nap"), {"seconds": 0}).json() == worker
    # Its successor takes over while the stream goes on.
    wait_until(
        "another worker",
        lambda: server.post(path_of("nap"), {"seconds": 0}).json() != worker,
    )
    assert len(rest_of(*stream).splitlines()) == 40


def test_a_killed_worker_breaks_its_streams_off_and_a_drain_waits_for_them(serve: Serve) -> None:
    server = serve(HANDLERS, args=["--workers", "1", "--drain-timeout", "2s"])
    stream = begun(server, "ticks", {"count": 100}, NDJSON)
    os.kill(server.workers()[0], signal.SIGKILL)
    with pytest.raises(CUT_OFF):
        rest_of(*stream)
    short = begun(server, "ticks", {"count": 15}, NDJSON)
    server.process.send_signal(signal.SIGTERM)
    assert len(rest_of(*short).splitlines()) == 15
    assert server.process.wait(10) == 0


def test_a_drain_does_not_wait_for_ever_for_a_stream(serve: Serve) -> None:
    server = serve(HANDLERS, args=["--workers", "1", "--drain-timeout", "1s"])
    streams = [begun(server, "endless"), begun(server, "endless_later")]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    for each in streams:
        with pytest.raises(CUT_OFF):
            rest_of(*each)


# === HTTP around a stream ===


def said(server: Server, raw: bytes, answers: int = 1) -> bytes:
    """Send bytes; give what is answered until the end, or until so many streams have ended."""
    with socket.create_connection((server.host, server.port), timeout=10) as client:
        client.sendall(raw)
        found = b""
        with suppress(ConnectionResetError):
            while found.count(b"0\r\n\r\n") < answers and (piece := client.recv(65536)):
                found += piece
        return found


def request(version: str, name: str, body: bytes = b"{}") -> bytes:
    head = f"POST {path_of(name)} HTTP/{version}\r\nhost: x\r\naccept: {NDJSON}\r\n"
    head += f"content-type: {JSON}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_a_connection_is_kept_after_a_stream_and_ended_after_a_broken_one(server: Server) -> None:
    found = said(server, request("1.1", "few") * 3, 3)
    assert found.count(b"HTTP/1.1 200") == 3 and found.count(b'{"n":2,"x":0.5}') == 3
    broken = request("1.1", "raises", b'{"when":"midway"}')
    found = said(server, broken + request("1.1", "few"))
    assert found.count(b"HTTP/1.1") == 1 and not found.endswith(b"0\r\n\r\n")
    found = said(server, request("1.0", "few"))
    assert b"transfer-encoding" not in found and found.endswith(b'{"n":2,"x":0.5}\n')
    for method in ("HEAD", "GET"):
        assert server.request(method, path_of("few")).status == 405


# === readers ===


class Sent:
    """A request whose body is sent by hand."""

    def __init__(self, server: Server, name: str) -> None:
        """Begin it."""
        self.connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
        self.connection.putrequest("POST", path_of(name))
        self.connection.putheader("content-type", STREAM)
        self.connection.putheader("transfer-encoding", "chunked")
        self.connection.endheaders()

    def send(self, raw: bytes) -> None:
        """Send some more; nothing ends it."""
        self.connection.send(b"%x\r\n%s\r\n" % (len(raw), raw))

    def answer(self) -> tuple[int, Any]:
        """Give status and body when they are there."""
        with closing(self.connection):
            answer = self.connection.getresponse()
            return answer.status, json.loads(answer.read())


def parts(count: int = 3) -> list[bytes]:
    """A stream in parts of a batch each; the last has the end, too."""
    sink, found = io.BytesIO(), []
    with pa.ipc.new_stream(sink, ROWS.schema) as writer:
        for _ in range(count):
            writer.write_table(ROWS)
            found.append(sink.getvalue())
            sink.seek(0)
            sink.truncate()
    return [*found[:-1], found[-1] + sink.getvalue()]


def test_a_reader_nobody_reads_to_the_end_ends_with_its_call(server: Server) -> None:
    worker = warm(server)
    before = held_at_rest(server.pid)
    for name, result in (("first_only", ROWS.num_rows), ("hands_on", "handed on")):
        sent = Sent(server, name)
        sent.send(parts()[0])
        # The body is not complete, and need not be.
        assert sent.answer() == (200, result)
    found = server.post(path_of("kept")).json()
    while len(found) < 2:
        found += server.post(path_of("kept")).json()
    assert ["ended early" in each for each in found] == [True, True]
    wait_for_rest(server.pid, before)
    assert server.workers() == [worker]


def test_a_body_that_is_garbage_or_too_large_midway_is_refused(server: Server) -> None:
    worker = warm(server)
    sent = Sent(server, "count")
    for raw in (parts()[0], os.urandom(70_000), b""):
        sent.send(raw)
    status, problem = sent.answer()
    assert status >= 400 and "problem" in problem["type"]
    sent = Sent(server, "count")
    with suppress(ConnectionError):
        for raw in parts(1100):
            sent.send(raw)
        sent.send(b"")
    assert sent.answer()[0] == 413
    assert server.workers() == [worker]


def test_a_client_that_sends_slowly_harms_no_neighbour(server: Server) -> None:
    worker = warm(server)
    with ThreadPoolExecutor() as pool:
        naps = [pool.submit(server.post, path_of("nap"), {"seconds": 4}) for _ in range(2)]
        time.sleep(0.3)
        sent = Sent(server, "count_later")
        sent.send(parts()[0])
        status, problem = sent.answer()
        assert (status, problem["type"]) == (504, "urn:exuvia:problem:timeout")
        assert [nap.result().json() for nap in naps] == [worker] * 2


def test_a_worker_that_dies_while_it_is_fed_fails_the_call(server: Server) -> None:
    before = held_at_rest(server.pid)
    sent = Sent(server, "count")
    sent.send(parts()[0])
    time.sleep(0.3)
    os.kill(server.workers()[0], signal.SIGKILL)
    status, problem = sent.answer()
    assert (status, problem["type"]) == (502, "urn:exuvia:problem:crash")
    warm(server)
    wait_for_rest(server.pid, before)


# === memory ===


@pytest.mark.parametrize("stage", ["half", "queued", "running", "answered"])
def test_a_large_body_is_let_go_when_its_client_leaves(server: Server, stage: str) -> None:
    worker = warm(server)
    before = {pid: held_at_rest(pid) for pid in (server.pid, worker)}
    blocker = threading.Thread(target=server.post, args=(path_of("ticks"), {"count": 20}))
    if stage == "queued":
        blocker.start()
        time.sleep(0.2)
    client = http.client.HTTPConnection(server.host, server.port, timeout=20)
    client.putrequest("POST", path_of("same" if stage == "answered" else "naps"))
    headers = {"content-type": STREAM, "accept": STREAM, "content-length": str(len(HUGE))}
    for name, value in headers.items():
        client.putheader(name, value)
    client.endheaders()
    client.send(HUGE[: len(HUGE) // 2] if stage == "half" else HUGE)
    answer = None
    if stage == "answered":
        answer = client.getresponse()
        assert len(answer.read(1000)) == 1000
    else:
        time.sleep(0.3)
    # It is there: what follows looks whether it goes.
    assert held(server.pid) != before[server.pid]
    client.close()
    if answer is not None:
        answer.close()
    if stage == "queued":
        blocker.join()
    wait_until("an answer", lambda: server.post(path_of("pid")).status == 200)
    after = {pid: before.get(pid) for pid in (server.pid, *server.workers())}
    for pid, rest in after.items():
        if rest is not None:
            wait_for_rest(pid, rest)
    assert memory(server.pid) < 60


def test_what_a_handler_keeps_is_kept_in_its_worker_only(server: Server) -> None:
    worker = warm(server)
    before = {pid: held_at_rest(pid) for pid in (server.pid, worker)}
    host = memory(server.pid)
    raw = as_stream(pa.table({"x": np.zeros(1 << 17)}))
    for n in range(100):
        assert give(server, "keeps", raw).json() == n + 1
    wait_for_rest(server.pid, before[server.pid])
    assert memory(server.pid) < host + 20
    # A map for each, and no descriptor.
    assert held(worker) == (before[worker][0], before[worker][1] + 100)
    server.post(path_of("forget"))
    wait_for_rest(worker, before[worker])


def test_a_child_that_writes_to_its_parents_arrays_changes_nothing(server: Server) -> None:
    found = give(server, "forks", MEMORY).json()
    assert found == {"status": 0, "sum": float(np.arange(20_000.0).sum())}


@pytest.mark.parametrize("media", [STREAM, FILE, PARQUET, CSV, NDJSON])
def test_ten_thousand_columns_are_a_table_like_others(server: Server, media: str) -> None:
    answer = server.post(path_of("wide"), {"columns": 10_000}, headers={"accept": media})
    form = next(each for each in FORMATS.values() if each.media == media)
    assert form.read(answer.body) == [{f"c{n}": n for n in range(10_000)}]


def test_names_of_columns_may_be_any_text(server: Server) -> None:
    odd = ["", " ", "é", "e\u0301", "\u202e\u200b", "\U0001d518", 'a"b,c', "\n\r\t", "\ufeffx"]
    names = [f"{odd[n % len(odd)]}{n // len(odd) or ''}" for n in range(200)]
    table = pa.table([pa.array([n]) for n in range(200)], names=names)
    for media in (STREAM, FILE, PARQUET, NDJSON):
        answer = give(server, "same", as_stream(table), media)
        assert answer.status == 200, (media, answer.body)
        form = next(each for each in FORMATS.values() if each.media == media)
        assert form.read(answer.body) == table.to_pylist(), media
    # Arrow's own interface has no way to say this one.
    answer = give(server, "same", as_stream(pa.table({"a\0b": [1]})))
    assert answer.status == 400 and "NUL" in answer.json()["detail"]


def test_text_and_a_table_go_together_on_the_command_line(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(next(f for f in FORMATS.values() if f.media == PARQUET).write(ROWS))
    done = call(f"{HANDLERS}:keyword", "--in", str(path), "--arg", "n=3")
    assert (done.returncode, done.stdout) == (0, "[20000,3]\n"), done.stderr
    for wrong in ("n=x", "table=x", "other=1"):
        done = call(f"{HANDLERS}:keyword", "--in", str(path), "--arg", wrong)
        assert done.returncode == 4 and wrong.split("=")[0] in done.stderr


# === from Python ===


def test_a_host_closes_whatever_is_still_being_read(run: Run) -> None:
    done = run(
        PROGRAM
        + """
def main():
    with exuvia.Host(A, workers=2, timeout=20) as host:
        left = [host.stream(N + name) for name in ("endless", "endless_later")]
        for each in left:
            next(each)
    print("closed")
    for each in left:
        try:
            print("ended" if list(each) else "nothing")
        except exuvia.CallError:
            print("ended")

if __name__ == "__main__":
    main()
"""
    )
    assert lines(done) == ["closed", "ended", "ended"]


def test_one_stream_read_by_many_threads_ends_for_all(run: Run) -> None:
    done = run(
        PROGRAM
        + """
import threading

def main():
    with exuvia.Host(A, workers=1, timeout=30) as host:
        stream, found = host.stream(N + "few", 2000), []

        def read():
            try:
                for table in stream:
                    found.append(table["n"][0].as_py())
            except ValueError:
                # It may be refused, as a generator does, but may not hang.
                pass

        threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(20)
        print(sum(each.is_alive() for each in threads))
        found += [table["n"][0].as_py() for table in stream]
        print(sorted(found) == list(range(2000)))

if __name__ == "__main__":
    main()
"""
    )
    assert lines(done) == ["0", "True"]


def test_tables_of_a_stream_need_no_pickle(run: Run) -> None:
    done = run(
        PROGRAM
        + """
def main():
    with exuvia.Host(A, workers=1, pickle=False) as host:
        print([table.num_rows for table in host.stream(N + "few")])
        print(len(host.call(N + "few")))

if __name__ == "__main__":
    main()
"""
    )
    assert lines(done) == ["[1, 1, 1]", "3"]


def test_shared_memory_serves_many_threads_and_outlives_its_host(run: Run) -> None:
    done = run(
        PROGRAM
        + """
import threading
import numpy as np
import pyarrow as pa

def main():
    shared = exuvia.share(pa.table({"x": np.arange(20_000.0)}))
    results = []
    with exuvia.Host(A, workers=2) as host:
        def go():
            for _ in range(20):
                results.append(host.call(N + "forks", shared)["sum"])

        threads = [threading.Thread(target=go) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    print(len(results), set(results) == {float(np.arange(20_000.0).sum())})
    try:
        host.call(N + "forks", shared)
    except RuntimeError as error:
        print("refused")
    with exuvia.Host(A, workers=1) as other:
        print(other.call(N + "forks", shared)["status"])

if __name__ == "__main__":
    main()
"""
    )
    assert lines(done) == ["80 True", "refused", "0"]


def test_a_pickle_is_refused_however_deep_and_wrong_tables_are_named(run: Run) -> None:
    done = run(
        PROGRAM
        + """
import pandas as pd

class Own:
    pass

def main():
    frame = pd.DataFrame({"a": [1]})
    with exuvia.Host(A, workers=1, pickle=False) as host:
        for hidden in (Own(), [[{"x": Own()}]], [{"x": pd.DataFrame({"a": [Own()]})}]):
            try:
                host.call(N + "keyword", table=frame, n=hidden)
            except TypeError as error:
                print("has no place" in str(error))
        print(host.call(N + "keyword", table=frame))
        for wrong in (None, [object()], Own):
            try:
                print(host.call(N + "keyword", table=wrong))
            except (exuvia.CallError, TypeError):
                print("refused")

if __name__ == "__main__":
    main()
"""
    )
    assert lines(done) == ["True"] * 3 + ["[1, 1]"] + ["refused"] * 3


def test_a_dict_of_arrays_goes_where_one_is_asked_for(run: Run) -> None:
    done = run(
        PROGRAM
        + """
import numpy as np

def main():
    with exuvia.Host(A, workers=1) as host:
        for array in (np.ones(3), np.ones(20_000), exuvia.share(np.ones(20_000))):
            print(host.call(N + "forks", {"x": array})["sum"])

if __name__ == "__main__":
    main()
"""
    )
    assert lines(done) == ["3.0", "20000.0", "20000.0"]
