"""Bodies of a gigabyte, plain and packed into a megabyte, against a limit of 64 MiB."""

import base64
import gzip
import select
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from abuse import MIB, Abused, Line, abused, listen_to, open_lines, read_answers, unharmed
from problems import problem

LIMIT = 64 * MIB
GIGABYTE = 1000**3

READERS = Path(__file__).parent / "handlers" / "abused_readers.py"

HEAD = b"POST /abused/marks HTTP/1.1\r\nhost: localhost\r\n"


@pytest.fixture(scope="module")
def server(
    exuvia_bin: Path, project_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Abused]:
    """One server for all."""
    marks = tmp_path_factory.mktemp("marks")
    words = [str(READERS), "--workers", "2", "--max-body", "64MiB"]
    with abused(exuvia_bin, project_python, marks, *words) as running:
        yield running


def pour(line: Line, pieces: Iterator[bytes]) -> int:
    """Send pieces until an answer comes, or nothing is taken any more; give how much was sent."""
    sent = 0
    for piece in pieces:
        if select.select([line.socket], [], [], 0)[0] or not line.send(piece):
            break
        sent += len(piece)
    return sent


def zeros(chunked: bool, size: int = MIB) -> Iterator[bytes]:
    """Give a gigabyte."""
    piece = b"%x\r\n%s\r\n" % (size, bytes(size)) if chunked else bytes(size)
    for _ in range(GIGABYTE // size):
        yield piece


# === as they are ===


def test_a_gigabyte_is_refused_by_its_length_before_it_is_sent(server: Abused) -> None:
    with unharmed(server.server, peak=16 * MIB), open_lines(server.server, 8) as lines:
        for line in lines:
            line.send(HEAD + b"content-length: %d\r\n\r\n" % GIGABYTE)
            assert pour(line, zeros(chunked=False)) < LIMIT
        listen_to(lines, 0.2)
    for line in lines:
        assert [said.status for said in read_answers(bytes(line.came))] == [413]
        assert line.closed
    assert server.count("marked") == 0


@pytest.mark.parametrize("size", [MIB, 1000], ids=["large chunks", "small chunks"])
def test_a_gigabyte_in_chunks_is_refused_at_the_limit(server: Abused, size: int) -> None:
    """What is read of it lies in memory for workers, at most the limit for each client."""
    sent = []

    def send(line: Line) -> None:
        line.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        sent.append(pour(line, zeros(True, size)))
        line.listen(10)

    with unharmed(server.server, peak=32 * MIB) as calm, open_lines(server.server, 4) as lines:
        threads = [threading.Thread(target=send, args=[line]) for line in lines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        calm.wait(5)
    for line in lines:
        assert [said.status for said in read_answers(bytes(line.came))] == [413]
        assert line.closed
    # What came after the refusal, until it was seen, is thrown away unread.
    assert min(sent) >= LIMIT and max(sent) < 4 * LIMIT
    assert server.count("marked") == 0


def test_who_goes_on_sending_after_the_refusal_is_not_listened_to_for_long(server: Abused) -> None:
    with unharmed(server.server, peak=16 * MIB), Line(server.server) as line:
        line.send(HEAD + b"content-length: %d\r\n\r\n" % GIGABYTE)
        began = time.monotonic()
        while line.send(bytes(1000)) and time.monotonic() - began < 10:
            time.sleep(0.02)
        assert time.monotonic() - began < 5


# === packed ===

BLOCK = bytes(16 * MIB)


def deflated(bits: int) -> bytes:
    """Give a gigabyte of zeros as zlib packs it: one packed block many times over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    first = packer.compress(BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    # After the first it knows nothing of what was before: each of these is the same.
    block = packer.compress(BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + block * (GIGABYTE // len(BLOCK))


def by_arrow(codec: str) -> bytes:
    """Give a gigabyte of zeros as Arrow's libraries pack it."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        for _ in range(GIGABYTE // len(BLOCK) + 1):
            stream.write(BLOCK)
    return bytes(sink.getvalue())


# Brotli takes seconds over a gigabyte: this is what `by_arrow("brotli")` gives, packed once more.
BROTLI = (
    "eNo7/f+/PYMKw6ONDkXv///4/5+9gcVBRqzh3V/5////M0xg6DjMdGHv/8f//8szCDEURjDs+l7/5/9/ZgcmBT5uh+//"
    "+v//r2fwYDiSyPji3v+P///zM3A2WOgw3P1t/+//f0YFRoF21gXV/49DLdnAUDJqyaglo5aMWjJqCd0tMQcAOqEJnA=="
)

BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: deflated(31),
    "deflate": lambda: deflated(15),
    "zstd": lambda: by_arrow("zstd"),
    "br": lambda: zlib.decompress(base64.b64decode(BROTLI)),
}


def packed(coding: str, body: bytes, *headers: bytes) -> bytes:
    """Write a request with a packed body."""
    lines = [b"content-encoding: " + coding.encode(), b"content-length: %d" % len(body), *headers]
    return HEAD + b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize("coding", BOMBS)
def test_a_gigabyte_that_comes_packed_is_refused_at_the_limit(server: Abused, coding: str) -> None:
    bomb = BOMBS[coding]()
    assert len(bomb) < 2 * MIB
    kinds = [b"content-type: application/json", b"content-type: application/octet-stream"]
    with unharmed(server.server, peak=48 * MIB) as calm, open_lines(server.server, 4) as lines:
        for n, line in enumerate(lines):
            line.send(packed(coding, bomb, kinds[n % 2]))
        listen_to(lines, 0.2)
        calm.wait(5)
    for line in lines:
        assert [said.status for said in read_answers(bytes(line.came))] == [413]
        assert line.closed
    assert server.count("marked") == 0


def test_what_is_not_packed_as_it_says_is_refused(server: Abused) -> None:
    body = b'{"tag": "packed"}'
    whole = gzip.compress(body)
    cases = {
        "noise": (packed("gzip", b"\xff" * 100), 400),
        "cut off": (packed("gzip", whole[:-9]), 400),
        "another checksum": (packed("gzip", whole[:-8] + b"\0\0\0\0" + whole[-4:]), 400),
        "something after it": (packed("gzip", whole + b"HTTP"), 400),
        "another coding": (packed("zstd", whole), 400),
        "twice": (packed("gzip, gzip", gzip.compress(whole)), 415),
        "two headers": (packed("gzip", whole, b"content-encoding: gzip"), 415),
        "unknown": (packed("compress", whole), 415),
    }
    with unharmed(server.server), open_lines(server.server, len(cases)) as lines:
        for (request, _), line in zip(cases.values(), lines, strict=True):
            line.send(request)
        listen_to(lines, 0.3)
    found = {
        name: [said.status for said in read_answers(bytes(line.came))]
        for name, line in zip(cases, lines, strict=True)
    }
    assert found == {name: [status] for name, (_, status) in cases.items()}
    assert server.count("packed") == 0


def test_what_is_packed_as_it_says_is_taken(server: Abused) -> None:
    """What is refused above would be taken if it were smaller."""
    body = b'{"tag": "taken"}' + b" " * 2 * MIB
    for n, (coding, sent) in enumerate(
        {
            "gzip": gzip.compress(body),
            "deflate": zlib.compress(body),
            "zstd": pa.Codec("zstd").compress(body, asbytes=True),
            "br": pa.Codec("brotli").compress(body, asbytes=True),
        }.items()
    ):
        told = {"content-encoding": coding}
        answer = server.server.post("/abused/marks", raw=sent, headers=told)
        assert (answer.status, answer.json()) == (200, "taken")
        assert server.count("taken") == n + 1


def test_a_packed_gigabyte_for_a_handler_that_reads_ends_its_data(server: Abused) -> None:
    """Data that a handler takes as it comes is held to the same limit."""
    bomb = BOMBS["gzip"]()
    told = {"content-encoding": "gzip", "content-type": "text/csv"}
    with unharmed(server.server, peak=48 * MIB) as calm:
        answer = server.server.post("/abused_readers/counts", raw=bomb, headers=told)
        calm.wait(5)
    problem(answer, "too_large", 413)
