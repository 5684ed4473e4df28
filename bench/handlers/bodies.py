"""What is sent in each case, what must come back, and what must be refused."""

import copy
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TRADE = json.loads((HERE / "trade.json").read_text(encoding="utf-8"))
CONFIRMATION = json.loads((HERE / "confirmation.json").read_text(encoding="utf-8"))

# Each of these alone makes the trade wrong, in a way that every contender has to see. Where: a
# path, and the wrong value; MISSING takes the member away.
MISSING = object()
FAULTS: list[tuple[tuple[str | int, ...], Any]] = [
    (("id",), "5f6c1d52-8f0a-4b0e-9d8e"),
    (("version",), 0),
    (("kind",), "swap"),
    (("currency",), "ABC"),
    (("traded_at",), "yesterday"),
    (("settles_on",), "2026-13-15"),
    (("buyer", "lei"), "529900T8BM49AURSDO5"),
    (("buyer", "address", "country"), "de"),
    (("buyer", "address", "city"), MISSING),
    (("seller", "rating"), 7),
    (("seller", "address", "postcode"), "no postcode"),
    (("seller", "phone"), "+47 75 00 00 00"),
    (("legs",), []),
    (("legs", 0, "quantity"), 0),
    (("legs", 1, "price"), "cheap"),
    (("legs", 2, "product"), "coal"),
    (("legs", 3, "settled"), []),
    (("legs", 4, "number"), 1.5),
    (("fees", "broker"), None),
    (("tags", 1), 7),
    (("margin",), 1.5),
]

# The faults of the one wrong trade that is measured.
SHOWN = [1, 3, 7, 8, 13, 15, 20]


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    key: str
    # `greet` or `confirm`: the path is the server's matter.
    handler: str
    what: str
    connections: int
    body: bytes
    # What the answer's JSON must be; None where the body must be refused.
    answer: Any

    @property
    def title(self) -> str:
        """The case in words."""
        many = f"{self.connections} connection{'s' if self.connections > 1 else ''}"
        size = len(self.body)
        how_large = "1 MiB" if size >= 1 << 20 else f"{size:,} bytes"
        return f"{self.what}: {many}, body of {how_large}"


def cases() -> list[Case]:
    """All of them, in the order in which they are measured."""
    typed, wrong = written(TRADE), written(spoilt(*(FAULTS[i] for i in SHOWN)))
    refused = f"a trade with {len(SHOWN)} faults, refused"
    return [
        Case("c64", "greet", "a greeting", 64, *greeting(5)),
        Case("c1", "greet", "a greeting", 1, *greeting(5)),
        Case("1MiB", "greet", "a long greeting", 8, *greeting(1 << 20)),
        Case("typed", "confirm", "a trade, confirmed", 64, typed, CONFIRMATION),
        Case("typed-1", "confirm", "a trade, confirmed", 1, typed, CONFIRMATION),
        Case("refused", "confirm", refused, 64, wrong, None),
    ]


def greeting(length: int) -> tuple[bytes, Any]:
    """A body with a name of that length, and its answer."""
    name = "x" * length
    return written({"name": name, "n": 41}), {"message": f"hello, {name}", "n": 42}


def written(value: Any) -> bytes:
    """Compact JSON, as most clients send it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def spoilt(*faults: tuple[tuple[str | int, ...], Any]) -> Any:
    """The trade with these faults."""
    trade = copy.deepcopy(TRADE)
    for (*way, last), value in faults:
        place = trade
        for step in way:
            place = place[step]
        if value is MISSING:
            del place[last]
        else:
            place[last] = value
    return trade


# === is it right? ===

Ask = Callable[[bytes], tuple[int, bytes]]


def asker(port: int, path: str) -> Ask:
    """POST JSON to a path, with a connection for each."""

    def ask(body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    return ask


def wrong(case: Case, ask: Ask) -> str:
    """Empty where all is right, else what is not."""
    if case.handler == "confirm":
        return misread(ask(written(TRADE)), CONFIRMATION) or wrongly_taken(ask)
    return misread(ask(case.body), case.answer)


def misread(answered: tuple[int, bytes], expected: Any) -> str:
    """What is wrong with the answer to a right body."""
    status, text = answered
    if status != 200:
        return f"answered {status}: {shown(text)}"
    # One moment has more than one ISO 8601 text.
    same = moments(json.loads(text)) == moments(expected)
    return "" if same else f"answered 200, but wrongly: {shown(text)}"


def wrongly_taken(ask: Ask) -> str:
    """Which fault is not refused when it is the only one: who checks less has less to do."""
    for number, (way, value) in enumerate(FAULTS):
        status, text = ask(written(spoilt((way, value))))
        if status not in (400, 422):
            what = "is missing" if value is MISSING else json.dumps(value)
            where = "/".join(map(str, way))
            return f"answered {status} to fault {number} ({where}: {what}): {shown(text)}"
    return ""


def moments(value: Any) -> Any:
    """The same value with times for the texts of times."""
    if isinstance(value, dict):
        return {key: moments(item) for key, item in value.items()}
    if isinstance(value, list):
        return [moments(item) for item in value]
    if isinstance(value, str) and len(value) >= len("2026-01-01T00:00Z") and value[10] == "T":
        return datetime.fromisoformat(value)
    return value


def shown(text: bytes) -> str:
    """The beginning of an answer."""
    return text[:600].decode(errors="replace")
