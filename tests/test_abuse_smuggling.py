"""Requests that two readers could take apart differently: answered once, or refused for good.

Each case carries a second request, hidden where only a reader that is wrong finds it. It leaves a
mark when it is run.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from abuse import Abused, abused, listen_to, open_lines, read_answers, unharmed

# Each case has a tag of its own in place of this one.
TAG = b'{"tag": "case-0000"}'
HIDDEN = b"POST /abused/marks HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (
    len(TAG),
    TAG,
)
LAST = b"0\r\n\r\n"

REFUSALS = {400, 413, 501}

NUMBERS = itertools.count(1)

# What a case comes to is known once nothing more was said for so long.
SILENCE = 0.3


def post(headers: bytes, rest: bytes, path: bytes = b"/abused/echoes", version: int = 1) -> bytes:
    """Write a request, and what follows it."""
    head = b"POST %s HTTP/1.%d\r\nhost: localhost\r\n%s\r\n" % (path, version, headers)
    return head + rest


def starting(line: bytes) -> bytes:
    """Write a request with another first line."""
    return line + b"\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[1,2]" + HIDDEN


def chunk(data: bytes) -> bytes:
    """Write data as one chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunks(rest: bytes) -> bytes:
    """Write a request whose body is said to be chunked."""
    return post(b"transfer-encoding: chunked\r\n", rest + HIDDEN)


# === requests that must be refused ===

# Codings that are not just `chunked`, by all or by some.
CODINGS = {
    "xchunked": b"Transfer-Encoding: xchunked\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "chunked, identity": b"Transfer-Encoding: chunked, identity\r\n",
    "identity, chunked": b"Transfer-Encoding: identity, chunked\r\n",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n",
    "chunked, gzip": b"Transfer-Encoding: chunked, gzip\r\n",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "chunked then identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "identity then chunked": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "chunked then x": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    "empty": b"Transfer-Encoding: \r\n",
    "comma before": b"Transfer-Encoding: ,chunked\r\n",
    "comma after": b"Transfer-Encoding: chunked,\r\n",
    "quoted": b'Transfer-Encoding: "chunked"\r\n',
    "parameter": b"Transfer-Encoding: chunked;q=1\r\n",
    "vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "form feed": b"Transfer-Encoding: chunked\x0c\r\n",
    "NUL": b"Transfer-Encoding: chunked\0\r\n",
    "no-break space": b"Transfer-Encoding: chunked\xa0\r\n",
    "Kelvin sign": "Transfer-Encoding: chun\u212aed\r\n".encode(),
    "space before colon": b"Transfer-Encoding : chunked\r\n",
    "NUL in name": b"Transfer-Encoding\0: chunked\r\n",
    "folded": b"Transfer-Encoding:\r\n chunked\r\n",
    "folded after x": b"Transfer-Encoding: x\r\n chunked\r\n",
    "space before name": b" Transfer-Encoding: chunked\r\n",
    "after a bare CR": b"x: y\rTransfer-Encoding: chunked\r\n",
}

# Spellings of `chunked` that everybody must know.
CHUNKED = {
    "chunked": b"Transfer-Encoding: chunked\r\n",
    "spaces": b"Transfer-Encoding:  chunked \t\r\n",
    "tab": b"Transfer-Encoding:\tchunked\r\n",
    "case": b"tRANSFER-eNCODING: ChUnKeD\r\n",
    "after a bare LF": b"x: y\nTransfer-Encoding: chunked\n",
}

LENGTHS = {
    "+5": b"+5",
    "5, 5": b"5, 5",
    "5, 6": b"5, 6",
    "-1": b"-1",
    "-0": b"-0",
    "0x5": b"0x5",
    "5 5": b"5 5",
    "5;": b"5;",
    "5_0": b"5_0",
    "5.0": b"5.0",
    "1e1": b"1e1",
    "five": b"five",
    "empty": b"",
    "vertical tab": b"\x0b5",
    "NUL": b"5\0",
    "arabic": "\u0665".encode(),
    "folded": b"\r\n 5",
    "2^64": b"18446744073709551616",
    "20 nines": b"9" * 20,
    "40 nines": b"9" * 40,
}

FIELDS = {
    "folded": b"x: y\r\n z\r\n",
    "folded by tab": b"x: y\r\n\tz\r\n",
    "space before name": b" x: y\r\n",
    "space before colon": b"x : y\r\n",
    "tab before colon": b"x\t: y\r\n",
    "no name": b": y\r\n",
    "no colon": b"xy\r\n",
    "space in name": b"x y: z\r\n",
    "parenthesis in name": b"x(: z\r\n",
    "latin-1 in name": b"x\xe9: y\r\n",
    "NUL in name": b"x\0y: z\r\n",
    "NUL in value": b"x: y\0z\r\n",
    "control in value": b"x: y\x01z\r\n",
    "DEL in value": b"x: y\x7fz\r\n",
    "bare CR": b"x: y\rz\r\n",
    "CR CR LF": b"x: y\r\r\n",
    "LF CR": b"x: y\n\r",
}

STARTS = {
    "two spaces": b"POST  /abused/echoes HTTP/1.1",
    "tabs": b"POST\t/abused/echoes\tHTTP/1.1",
    "space after": b"POST /abused/echoes HTTP/1.1 ",
    "word after": b"POST /abused/echoes HTTP/1.1 x",
    "CR after": b"POST /abused/echoes HTTP/1.1\r",
    "space before": b" POST /abused/echoes HTTP/1.1",
    "CR before": b"\rPOST /abused/echoes HTTP/1.1",
    "lower case": b"POST /abused/echoes http/1.1",
    "HTTP/1.2": b"POST /abused/echoes HTTP/1.2",
    "HTTP/2.0": b"POST /abused/echoes HTTP/2.0",
    "HTTP/1.10": b"POST /abused/echoes HTTP/1.10",
    "HTTP/01.1": b"POST /abused/echoes HTTP/01.1",
    "no version": b"POST /abused/echoes",
    "NUL in path": b"POST /abused/ec\0hoes HTTP/1.1",
    "space in path": b"POST /abused/ echoes HTTP/1.1",
    "CR in path": b"POST /abused/echoes\rx HTTP/1.1",
    "backslashes": b"POST \\abused\\echoes HTTP/1.1",
    "no slash": b"POST abused/echoes HTTP/1.1",
    "parenthesis in method": b"PO(ST /abused/echoes HTTP/1.1",
}

HOSTS = {
    "two": b"host: localhost\r\nhost: evil.example\r\n",
    "two alike": b"host: localhost\r\nhost: localhost\r\n",
    "none": b"",
}

CHUNKS = {
    "sign": b"+5\r\n[1,2]\r\n" + LAST,
    "negative": b"-5\r\n[1,2]\r\n" + LAST,
    "0x": b"0x5\r\n[1,2]\r\n" + LAST,
    "underscore": b"0_5\r\n[1,2]\r\n" + LAST,
    "no digit": b"g\r\n[1,2]\r\n" + LAST,
    "empty": b"\r\n[1,2]\r\n" + LAST,
    "two numbers": b"5 5\r\n[1,2]\r\n" + LAST,
    "overflow": b"ffffffffffffffff1\r\n[1,2]\r\n" + LAST,
    "overflow to 5": b"10000000000000005\r\n[1,2]\r\n" + LAST,
    "LF after size": b"5\n[1,2]\r\n" + LAST,
    "CR after size": b"5\r[1,2]\r\n" + LAST,
    "CR CR LF after size": b"5\r\r\n[1,2]\r\n" + LAST,
    "LF after data": b"5\r\n[1,2]\n" + LAST,
    "nothing after data": b"5\r\n[1,2]" + LAST,
    "data longer": b"5\r\n[1,2]x\r\n" + LAST,
    "data shorter": b"6\r\n[1,2]\r\n" + LAST,
    "LF in extension": b"5;a\nb\r\n[1,2]\r\n" + LAST,
    "CR in extension": b"5;a\rb\r\n[1,2]\r\n" + LAST,
    "extension of 1 MB": b"5;" + b"a" * (1 << 20) + b"\r\n[1,2]\r\n" + LAST,
    "negative end": b"5\r\n[1,2]\r\n-0\r\n\r\n",
    "LF for the end": b"5\r\n[1,2]\r\n0\n\n",
    "trailer without colon": b"5\r\n[1,2]\r\n0\r\nx y\r\n\r\n",
    "trailer with space before colon": b"5\r\n[1,2]\r\n0\r\nx : y\r\n\r\n",
    "trailer with NUL": b"5\r\n[1,2]\r\n0\r\nx: \0\r\n\r\n",
    "trailer folded": b"5\r\n[1,2]\r\n0\r\nx: y\r\n z\r\n\r\n",
    "10,000 trailers": b"5\r\n[1,2]\r\n0\r\n" + b"x: y\r\n" * 10_000 + b"\r\n",
    "trailer of 1 MB": b"5\r\n[1,2]\r\n0\r\nx: " + b"y" * (1 << 20) + b"\r\n\r\n",
}


def refused() -> dict[str, bytes]:
    """Give requests of which nobody knows where they end."""
    found = {}
    for name, coding in CODINGS.items():
        found[f"coding {name}"] = post(coding, chunk(b"[1,2]") + LAST + HIDDEN)
        # Whoever goes by the length finds one request, whoever goes by the chunks two; and the
        # other way around.
        long, short = LAST + HIDDEN, chunk(HIDDEN) + LAST
        found[f"coding {name}, length first"] = post(
            b"content-length: %d\r\n%s" % (len(long), coding), long
        )
        found[f"coding {name}, length last"] = post(b"%scontent-length: 4\r\n" % coding, short)
    for name, coding in (CODINGS | CHUNKED).items():
        found[f"coding {name} in 1.0"] = post(
            coding + b"connection: keep-alive\r\n", chunk(HIDDEN) + LAST + HIDDEN, version=0
        )
    for name, length in LENGTHS.items():
        found[f"length {name}"] = post(b"content-length: %s\r\n" % length, b"[1,2]" + HIDDEN)
    for first, second in [(5, 6), (6, 5), (0, 5), (5, 0)]:
        both = b"content-length: %d\r\ncontent-length: %d\r\n" % (first, second)
        found[f"lengths {first} and {second}"] = post(both, b"[1,2]" + HIDDEN)
    found["length before a space"] = post(b"content-length : 5\r\n", b"[1,2]" + HIDDEN)
    for name, field in FIELDS.items():
        found[f"field {name}"] = post(b"content-length: 5\r\n" + field, b"[1,2]" + HIDDEN)
    for name, line in STARTS.items():
        found[f"start {name}"] = starting(line)
    for name, hosts in HOSTS.items():
        found[f"host {name}"] = b"GET /healthz HTTP/1.1\r\n%s\r\n%s" % (hosts, HIDDEN)
    for name, body in CHUNKS.items():
        found[f"chunks {name}"] = chunks(body)
    return found


# === requests that are answered once ===


def once() -> dict[str, bytes]:
    """Give requests that end where the standard says, with the second one inside or thereafter."""
    found = {}
    for name, coding in CHUNKED.items():
        long, short = LAST + HIDDEN, chunk(HIDDEN) + LAST
        # By RFC 9112, 6.1 the chunks count, and the connection ends.
        found[f"coding {name}, length first"] = post(
            b"content-length: %d\r\n%s" % (len(long), coding), long
        )
        found[f"coding {name}, length last"] = post(b"%scontent-length: 4\r\n" % coding, short)
    size = len(HIDDEN)
    for method in ("GET", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", "post"):
        for path in ("/healthz", "/abused/echoes", "/nowhere"):
            head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n".encode()
            length = b"content-length: %d\r\n\r\n" % size
            found[f"{method} {path} with a length"] = head + length + HIDDEN
            chunked = b"transfer-encoding: chunked\r\n\r\n"
            found[f"{method} {path} in chunks"] = head + chunked + chunk(HIDDEN) + LAST
    length = b"content-length: %d\r\n" % size
    upgrade = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    for name, headers, version in [
        ("1.0", b"", 0),
        ("1.0 kept alive", b"connection: keep-alive\r\n", 0),
        ("expected", b"expect: 100-continue\r\n", 1),
        ("expected otherwise", b"expect: 200-ok\r\n", 1),
        ("upgrade", upgrade, 1),
        ("another type", b"content-type: text/html\r\n", 1),
        ("compressed", b"content-encoding: compress\r\n", 1),
        ("for another site", b"sec-fetch-site: cross-site\r\n", 1),
    ]:
        for target in (b"/abused/echoes", b"/nowhere", b"/healthz"):
            found[f"{name} {target.decode()}"] = post(length + headers, HIDDEN, target, version)
    found["1.0 without a length"] = post(b"connection: keep-alive\r\n", b"", version=0)
    found["close"] = post(b"content-length: 4\r\nconnection: close\r\n", b"null" + HIDDEN)
    found["other headers"] = post(b"Transfer_Encoding: chunked\r\n" + length, HIDDEN)
    return found


def after_trailers() -> dict[str, bytes]:
    """Give requests whose trailers end early for some.

    Some take a bare LF for the end of a line, as they may (RFC 9112, 2.2). Whoever reads on to the
    next CR LF CR LF takes the head that follows for trailers, and its body for a request.
    """
    harmless = post(b"content-length: %d\r\n" % len(HIDDEN), HIDDEN, b"/nowhere")
    ends = {"none": b"0\r\n\n", "one": b"0\r\nx: y\n\r\n", "one and LF": b"0\r\nx: y\n\n"}
    return {
        f"{name} {path.decode()}": post(
            b"transfer-encoding: chunked\r\n", b"5\r\n[1,2]\r\n" + end + harmless, path
        )
        for path in (b"/abused/echoes", b"/nowhere")
        for name, end in ends.items()
    }


# === requests that may be followed by another ===


def fair() -> dict[str, bytes]:
    """Give requests of which all agree where they end: what follows is a second one."""
    chunked = {
        "plain": b"5\r\n[1,2]\r\n" + LAST,
        "extension": b'5;a="b;c"\r\n[1,2]\r\n' + LAST,
        "zeros": b"0" * 30 + b"5\r\n[1,2]\r\n" + LAST,
        "end with zeros": b"5\r\n[1,2]\r\n000\r\n\r\n",
        "end with an extension": b"5\r\n[1,2]\r\n0;x\r\n\r\n",
        "one by one": b"".join(chunk(b"%c" % byte) for byte in b"[1,2]") + LAST,
    }
    found = {f"chunks {name}": chunks(body) for name, body in chunked.items()}
    for name, coding in CHUNKED.items():
        found[f"coding {name}"] = post(coding, chunk(b"[1,2]") + LAST + HIDDEN)
    for name, length in {"5": b"5", "005": b"005", "spaces": b" 5\t"}.items():
        found[f"length {name}"] = post(b"content-length: %s\r\n" % length, b"[1,2]" + HIDDEN)
    found["line ends"] = starting(b"\r\n\nPOST /abused/echoes HTTP/1.1")
    return found


# Trailers are nobody's headers.
TRAILERS = b"content-length: 200\r\ntransfer-encoding: chunked\r\nhost: evil.example\r\n"


# === the tests ===


@dataclass
class Seen:
    """What a case came to."""

    statuses: list[int]
    closed: bool
    # How often the hidden request was run.
    ran: int


@pytest.fixture(scope="module")
def server(
    exuvia_bin: Path, project_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Abused]:
    """One server for all cases."""
    marks = tmp_path_factory.mktemp("marks")
    with abused(exuvia_bin, project_python, marks, "--workers", "1") as running:
        yield running


def attempt(server: Abused, cases: dict[str, bytes]) -> dict[str, Seen]:
    """Send every case on a connection of its own, all of them at once."""
    tags = {name: f"case-{next(NUMBERS):04}" for name in cases}
    with unharmed(server.server), open_lines(server.server, len(cases)) as lines:
        sent = dict(zip(cases, lines, strict=True))
        for name, line in sent.items():
            line.send(cases[name].replace(b"case-0000", tags[name].encode()))
        listen_to(lines, SILENCE)
    found = {}
    for name, line in sent.items():
        method = cases[name].partition(b" ")[0].decode(errors="replace")
        answers = read_answers(bytes(line.came), [method])
        found[name] = Seen([said.status for said in answers], line.closed, server.count(tags[name]))
    return found


def counted(server: Abused) -> float:
    """How many refusals the metrics know of."""
    return sum(
        value
        for name, value in server.server.metrics().items()
        if name.startswith("exuvia_http_requests_total{")
        and any(f'status="{status}"' in name for status in REFUSALS)
    )


def test_a_request_whose_end_is_unclear_is_refused_and_so_is_all_that_follows(
    server: Abused,
) -> None:
    cases = refused()
    before = counted(server)
    found = attempt(server, cases)
    wrong = {
        name: seen
        for name, seen in found.items()
        if len(seen.statuses) != 1
        or seen.statuses[0] not in REFUSALS
        or not seen.closed
        or seen.ran
    }
    assert wrong == {}
    assert counted(server) - before == len(cases)


def test_a_request_is_answered_once_whatever_is_in_its_body(server: Abused) -> None:
    found = attempt(server, once())
    assert {name: seen for name, seen in found.items() if len(seen.statuses) != 1 or seen.ran} == {}


def test_a_length_beside_chunks_ends_the_connection(server: Abused) -> None:
    found = attempt(server, {name: case for name, case in once().items() if ", length " in name})
    assert {name: seen for name, seen in found.items() if not seen.closed} == {}


def test_trailers_are_taken_for_no_request_and_no_request_for_trailers(server: Abused) -> None:
    found = attempt(server, after_trailers())
    assert {name: seen for name, seen in found.items() if seen.ran or not seen.closed} == {}


def test_trailers_are_nobodys_headers(server: Abused) -> None:
    request = chunks(b"5\r\n[1,2]\r\n0\r\n" + TRAILERS + b"\r\n")
    (seen,) = attempt(server, {"trailers": request}).values()
    # A server may refuse them, or end the connection with the answer.
    if seen.closed:
        assert seen.statuses in ([200], [400]) and not seen.ran
    else:
        assert seen.statuses == [200, 200] and seen.ran == 1


def test_what_follows_a_fair_request_is_a_request(server: Abused) -> None:
    """What is hidden elsewhere is run where it is not."""
    found = attempt(server, fair())
    assert {name for name, seen in found.items() if seen != Seen([200, 200], False, 1)} == set()
