"""HTTP/2 by hand: any frame may be sent, in any order, and what came back is taken apart.

Header blocks are packed and unpacked by the `hpack` package. What a client that means harm sends is
written here byte by byte, since no library would.
"""

import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self

import hpack
from abuse import PATIENCE, Line
from processes import Server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

# Flags.
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8

# Settings.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, WINDOW, FRAME_SIZE = 1, 2, 3, 4, 5

# Errors.
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR = 1, 3, 6
REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 7, 8, 11

# As much as a window may be.
WIDE = (1 << 31) - 1
FIRST_WINDOW = 65535


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Write one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """Write a frame of settings."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *one) for one in values.items()))


def window_update(stream: int, more: int) -> bytes:
    """Allow the server to send so much more."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", more))


def reset(stream: int, code: int = CANCEL) -> bytes:
    """Give a stream up."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def literal(name: bytes, value: bytes) -> bytes:
    """Pack a header so that nobody need remember it, and without asking whether it may be."""
    return b"\0" + _integer(len(name), 7) + name + _integer(len(value), 7) + value


def _integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    value, found = value - most, [most]
    while value >= 128:
        found.append(value % 128 + 128)
        value //= 128
    return bytes([*found, value])


def block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Pack headers."""
    return b"".join(literal(name, value) for name, value in headers)


def request(method: str, path: str, *more: tuple[bytes, bytes]) -> bytes:
    """Pack the head of a request."""
    first = [(b":method", method.encode()), (b":scheme", b"http")]
    first += [(b":authority", b"localhost"), (b":path", path.encode())]
    return block([*first, *more])


@dataclass
class Heard:
    """What came on one stream."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    # The error by which the server gave it up.
    reset: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether no more comes."""
        return self.ended or self.reset is not None


class Http2:
    """A connection of HTTP/2. Streams are numbered as they should be by `next_stream`."""

    def __init__(
        self, server: Server, values: dict[int, int] | None = None, *, wide: bool = True
    ) -> None:
        """Begin with these settings; `wide`: the server may send as much as it likes."""
        self.line = Line(server)
        self.streams: dict[int, Heard] = {}
        # The error that the server ended the connection with.
        self.goaway: int | None = None
        self.settings: dict[int, int] = {}
        self.pongs = 0
        self.next_stream = count(1, 2)
        # What the server allows to be sent, beside what each stream is allowed at first.
        self.window = FIRST_WINDOW
        self.windows: dict[int, int] = {}
        self._decoder = hpack.Decoder()
        self._block = b""
        given = {WINDOW: WIDE, **(values or {})} if wide else values or {}
        self.send(
            PREFACE + settings(given) + (window_update(0, WIDE - FIRST_WINDOW) if wide else b"")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.line.close()

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self.line.closed

    def send(self, data: bytes) -> bool:
        """Send all of it and read what comes meanwhile; false once the server has closed."""
        sent = self.line.exchange(data)
        self._take_apart()
        return sent

    def ask(self, method: str, path: str, body: bytes = b"", *more: tuple[bytes, bytes]) -> int:
        """Send a whole request; its stream."""
        stream = next(self.next_stream)
        flags = END_HEADERS | (0 if body else END_STREAM)
        data = frame(HEADERS, flags, stream, request(method, path, *more))
        if body:
            data += frame(DATA, END_STREAM, stream, body)
        self.send(data)
        return stream

    def listen(self, until: Callable[[], object], seconds: float = PATIENCE) -> bool:
        """Read until this is so, or the server has closed; false when neither comes."""
        deadline = time.monotonic() + seconds
        while not until():
            if self.closed:
                return True
            if time.monotonic() > deadline:
                return False
            self.line.listen_once(0.05)
            self._take_apart()
        return True

    def answer(self, stream: int) -> Heard:
        """Wait for the end of a stream."""
        assert self.listen(lambda: self.heard(stream).is_over), f"no end of stream {stream}"
        return self.heard(stream)

    def heard(self, stream: int) -> Heard:
        """What came of a stream so far."""
        return self.streams.setdefault(stream, Heard())

    def is_ended(self, seconds: float = PATIENCE) -> bool:
        """Whether the server closes the connection."""
        return self.listen(lambda: False, seconds)

    def room(self, stream: int) -> int:
        """How many bytes of a body may be sent now."""
        first = self.settings.get(WINDOW, FIRST_WINDOW)
        return min(self.window, self.windows.get(stream, 0) + first)

    def spend(self, stream: int, size: int) -> None:
        """Note that so many bytes of a body are sent."""
        self.window -= size
        self.windows[stream] = self.windows.get(stream, 0) - size

    def pour(self, stream: int, size: int) -> int:
        """Send as much of a body as is taken before the stream is over; give how much that was."""
        sent = 0
        while sent < size and not self.heard(stream).is_over and not self.closed:
            some = min(self.room(stream), size - sent, 16384)
            if some > 0:
                self.spend(stream, some)
                sent += some
                self.send(frame(DATA, 0, stream, bytes(some)))
            elif not self.listen(lambda: self.room(stream) > 0 or self.heard(stream).is_over, 5):
                break
        return sent

    # --- what came ---

    def _take_apart(self) -> None:
        came = self.line.came
        at = 0
        while len(came) - at >= 9:
            length = int.from_bytes(came[at : at + 3], "big")
            if len(came) - at < 9 + length:
                break
            kind, flags, stream = struct.unpack(">BBI", came[at + 3 : at + 9])
            self._frame(kind, flags, stream, bytes(came[at + 9 : at + 9 + length]))
            at += 9 + length
        del came[:at]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        heard = self.heard(stream)
        if kind in (HEADERS, CONTINUATION):
            assert not flags & PADDED
            self._block += payload
            if flags & END_HEADERS:
                self._headers(heard)
            heard.ended = heard.ended or bool(kind == HEADERS and flags & END_STREAM)
        elif kind == DATA:
            heard.body += payload
            heard.ended = bool(flags & END_STREAM)
        elif kind == RST_STREAM:
            heard.reset = int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at : at + 6])
                self.settings[name] = value
            self.line.trickle(frame(SETTINGS, ACK))
        elif kind == PING and flags & ACK:
            self.pongs += 1
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        elif kind == WINDOW_UPDATE and stream == 0:
            self.window += int.from_bytes(payload, "big")
        elif kind == WINDOW_UPDATE:
            self.windows[stream] = self.windows.get(stream, 0) + int.from_bytes(payload, "big")

    def _headers(self, heard: Heard) -> None:
        for name, value in self._decoder.decode(self._block):
            heard.headers[str(name)] = str(value)
        self._block = b""
        heard.status = int(heard.headers[":status"])
