"""Clients that mean harm, one that does not, and what a server loses to the former: nothing.

`unharmed` is around every attack: meanwhile a client that means well is answered, and afterwards
the server holds what it held before.
"""

import http.client
import json
import os
import re
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from processes import START_SECONDS, Server, held, serving, wait_until

ABUSED = Path(__file__).parent / "handlers" / "abused.py"

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")

# The state of a connection that neither side has ended, as the kernel tells it.
ESTABLISHED = 1

# An answer to a client that means well takes milliseconds; this is for a machine under load.
SOON = 10.0

# The same for the ends of those that mean harm.
PATIENCE = 20.0


# === a server whose handlers leave marks ===


@dataclass
class Abused:
    """A running server of `handlers/abused.py`."""

    server: Server
    marks: Path

    def count(self, tag: str) -> int:
        """How many marks of this name were left."""
        with suppress(FileNotFoundError):
            return Path(self.marks, tag).stat().st_size
        return 0


@contextmanager
def abused(binary: Path, python: Path, marks: Path, *words: str) -> Iterator[Abused]:
    """Serve `handlers/abused.py` until the block ends."""
    marks.mkdir(exist_ok=True)
    command = [str(binary), "serve", str(ABUSED), "--port", "0", "--python", str(python)]
    with serving([*command, *words], env={"ABUSED_MARKS": str(marks)}) as server:
        # `2 of 2 workers ready`; what comes later would seem to be the attack's doing.
        ready = re.compile(rb"([0-9]+) of \1 ")
        wait_until("workers", lambda: ready.match(server.get("/readyz").body), START_SECONDS)
        yield Abused(server, marks)


# === a raw connection ===


@dataclass
class Said:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """A connection on which anything may be sent."""

    def __init__(self, server: Server, *, buffer: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET)
        if buffer is not None:
            # Before connecting, or the window is agreed on without it.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((server.host, server.port))
        self.came = bytearray()
        self.closed = False
        self._left = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, data: bytes) -> bool:
        """Send all of it; false when the server has closed the connection meanwhile."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def trickle(self, data: bytes) -> bool:
        """Send what is taken at once; false when the server has closed the connection.

        What is left goes out first the next time, in place of what is given then.
        """
        self._left = self._left or data
        try:
            sent = self.socket.send(self._left, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._left = self._left[sent:]
        return True

    def exchange(self, data: bytes) -> bool:
        """Send all of it and read what comes meanwhile; false once the server has closed."""
        left = memoryview(data)
        poll = select.poll()
        poll.register(self.socket, select.POLLIN | select.POLLOUT)
        deadline = time.monotonic() + PATIENCE
        while left and not self.closed:
            assert time.monotonic() < deadline, f"{len(left)} bytes are not taken"
            for _, events in poll.poll(1000):
                if events & select.POLLOUT:
                    with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                        left = left[self.socket.send(left, flags) :]
                if events & ~select.POLLOUT:
                    self.listen_once(0)
        return not self.closed

    def listen_once(self, seconds: float) -> None:
        """Read what is there within this time."""
        if select.select([self.socket], [], [], seconds)[0]:
            try:
                piece = self.socket.recv(1 << 18)
            except ConnectionResetError:
                piece = b""
            self.came += piece
            self.closed = not piece

    def listen(self, silence: float) -> bool:
        """Read until nothing comes for so long; true when the server has closed."""
        self.socket.settimeout(silence)
        try:
            while piece := self.socket.recv(65536):
                self.came += piece
        except TimeoutError:
            return False
        except ConnectionResetError:
            pass
        self.closed = True
        return True

    def is_ended(self) -> bool:
        """Whether the server has ended the connection; nothing is read for that."""
        state = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return bool(state != ESTABLISHED)

    def close(self) -> None:
        """End as a well-behaved client does."""
        self.socket.close()

    def reset(self) -> None:
        """End by a reset instead."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@contextmanager
def open_lines(server: Server, count: int, buffer: int | None = None) -> Iterator[list[Line]]:
    """Open connections that are all closed after the block."""
    with ExitStack() as opened:
        yield [opened.enter_context(Line(server, buffer=buffer)) for _ in range(count)]


def listen_to(lines: Sequence[Line], silence: float) -> None:
    """Read until each has said something or is closed, and then nothing came for so long."""
    open_ones = {line.socket.fileno(): line for line in lines}
    silent = set(open_ones)
    poll = select.poll()
    for number in open_ones:
        poll.register(number, select.POLLIN)
    deadline = time.monotonic() + PATIENCE
    while open_ones and time.monotonic() < deadline:
        ready = poll.poll(silence * 1000)
        if not ready and not silent:
            return
        for number, _ in ready:
            silent.discard(number)
            line = open_ones[number]
            try:
                piece = line.socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            line.came += piece
            if not piece:
                line.closed = True
                poll.unregister(open_ones.pop(number).socket)


def read_answers(came: bytes, methods: Sequence[str] = ()) -> list[Said]:
    """Take what came on a connection apart; fail when that is not answers from end to end."""
    found: list[Said] = []
    rest = came
    while rest:
        head, gap, rest = rest.partition(b"\r\n\r\n")
        assert gap, f"not an answer: {head[:200]!r}"
        first, *lines = head.split(b"\r\n")
        version, status, *_ = first.split(b" ")
        assert version in (b"HTTP/1.1", b"HTTP/1.0"), f"not an answer: {first[:200]!r}"
        headers = {}
        for line in lines:
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        said = Said(int(status), headers, b"")
        to_head = methods[len(found) :][:1] == ["HEAD"]
        if said.status >= 200 and said.status not in (204, 304) and not to_head:
            said.body, rest = _body(headers, rest)
        if said.status != 100:
            found.append(said)
    return found


def _body(headers: dict[str, str], rest: bytes) -> tuple[bytes, bytes]:
    if headers.get("transfer-encoding") == "chunked":
        return _chunks(rest)
    length = int(headers["content-length"])
    assert len(rest) >= length, "an answer that is cut off"
    return rest[:length], rest[length:]


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    body = bytearray()
    while True:
        size, gap, data = data.partition(b"\r\n")
        assert gap, "chunks that are cut off"
        length = int(size, 16)
        body += data[:length]
        assert data[length : length + 2] == b"\r\n", "chunks that are cut off"
        data = data[length + 2 :]
        if length == 0:
            return bytes(body), data


# === while it is attacked ===


def resident(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


class Calm:
    """A client that means well, in a thread of its own: one short call after the other."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.answers = 0
        self.wrong: list[str] = []
        # The most resident memory that was seen meanwhile.
        self.peak = resident(server.pid)
        self._done = threading.Event()
        self._line = http.client.HTTPConnection(server.host, server.port, timeout=SOON)
        # It is there before the others are.
        self._ask(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop asking."""
        self._done.set()
        self._thread.join(PATIENCE * 2)
        self._line.close()

    def wait(self, more: int = 1) -> None:
        """Wait until so many more answers came: what began before is going on."""
        goal, deadline = self.answers + more, time.monotonic() + PATIENCE
        while self.answers < goal and not self.wrong and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.answers >= goal, f"{self.wrong or 'no answer'} to a client that means well"

    def _run(self) -> None:
        n = 0
        while not self._done.wait(0.004):
            n += 1
            try:
                self._ask(n)
            except Exception as error:
                self.wrong.append(repr(error))
                return
            self.answers += 1
            self.peak = max(self.peak, resident(self.server.pid))

    def _ask(self, n: int) -> None:
        body = json.dumps({"first": n, "second": 1})
        self._line.request("POST", "/abused/adds", body, {"content-type": "application/json"})
        answer = self._line.getresponse()
        said = answer.status, answer.read()
        if said != (200, str(n + 1).encode()):
            raise AssertionError(f"{n} + 1 was answered {said}")


def more_than(pid: int, kinds: Counter[str]) -> Counter[str]:
    """Give the descriptors that a process has beyond these. One may just be closing."""
    return held(pid)[0] - kinds


@contextmanager
def unharmed(server: Server, *, growth: int = 4 * MIB, peak: int = 64 * MIB) -> Iterator[Calm]:
    """Hold the server to what is asked of it while the block attacks.

    Meanwhile a client that means well is answered, rightly each time. Resident memory of the host
    grows by less than `peak` meanwhile, and is back within `growth` afterwards. No descriptor,
    connection or request is left, no worker died, and nothing of the server failed.
    """
    wait_until("rest", lambda: server.metrics()["exuvia_http_connections"] == 1)
    workers, restarts = sorted(server.workers()), server.restarts()
    (kinds, maps), before = held(server.pid), resident(server.pid)
    calm = Calm(server)
    try:
        yield calm
        calm.wait()
    finally:
        calm.end()
    assert calm.wrong == []
    assert calm.answers >= 1
    assert calm.peak - before < peak, f"{(calm.peak - before) / MIB:.1f} MiB more at its peak"
    wait_until("the descriptors to be closed", lambda: not more_than(server.pid, kinds), PATIENCE)
    wait_until("the memory of bodies to be given back", lambda: held(server.pid)[1] <= maps)
    after = resident(server.pid)
    assert after - before < growth, f"{(after - before) / MIB:.1f} MiB more than before"
    assert sorted(server.workers()) == workers
    assert server.restarts() == restarts
    metrics = server.metrics()
    # The one that asks.
    assert metrics["exuvia_http_connections"] == 1
    assert metrics["exuvia_http_requests_in_flight"] == 1
    assert metrics["exuvia_queue_length"] == 0
    assert "panicked" not in server.log() and "fault in the server" not in server.log()
