"""Routes: methods, paths, queries, headers, forms, files, streams, limits; and their mistakes."""

import concurrent.futures
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Serve
from problems import problem
from processes import Answer, Server, serving

HANDLERS = Path(__file__).parent / "handlers"
ROUTED = HANDLERS / "routed.py"
CSV = b"a,b\n1,2\n3,4\n"


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    command = [str(exuvia_bin), "serve", str(ROUTED), "--port", "0"]
    command += ["--python", str(project_python), "--workers", "1"]
    with serving(command) as running:
        yield running


def multipart(*parts: tuple[str, str | None, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    """A form of parts: name, file name, type, content."""
    body = b""
    for name, file, media, content in parts:
        head = f'--x--y\r\nContent-Disposition: form-data; name="{name}"'
        head += f'; filename="{file}"' if file is not None else ""
        head += f"\r\nContent-Type: {media}" if media else ""
        body += head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--x--y--\r\n", {"content-type": "multipart/form-data; boundary=x--y"}


def faults(answer: Answer) -> dict[str, str]:
    """What is wrong with the arguments, by pointer."""
    return {each["pointer"]: each["detail"] for each in problem(answer, "input", 422)["errors"]}


# === where arguments come from ===


def test_arguments_come_from_path_query_and_headers(server: Server) -> None:
    answer = server.request("GET", "/forecast/caf%C3%A9%2F1?hours=3&day=2026-01-31")
    assert answer.json() == {
        "asset": "café/1",
        "hours": 3,
        "model": "mean",
        "day": "2026-01-31",
    }
    answer = server.request("GET", "/forecast/a", headers={"X-MODEL": "max"})
    assert answer.json()["model"] == "max"
    assert server.request("HEAD", "/forecast/a").status == 200


def test_all_faults_of_a_query_are_told_at_once(server: Server) -> None:
    found = faults(server.request("GET", "/forecast/a?hours=x&day=y"))
    assert found.keys() == {"/hours", "/day"}
    found = faults(server.request("GET", "/forecast/a?huors=3&model=max&asset=b"))
    assert found["/huors"] == "there is no parameter of this name. Did you mean `hours`?"
    assert found.keys() == {"/huors", "/model", "/asset"}
    assert faults(server.request("GET", "/tagged")).keys() == {"/tag"}
    assert faults(server.request("GET", "/kind/c")).keys() == {"/kind"}


def test_a_name_given_several_times_is_a_list(server: Server) -> None:
    assert server.request("GET", "/tagged?tag=a&tag=b+c&n=2").json() == {
        "tag": ["a", "b c"],
        "n": 2,
    }
    assert server.request("GET", "/tagged?tag=a").json()["tag"] == ["a"]
    assert faults(server.request("GET", "/tagged?tag=a&n=0")) == {"/n": "must be at least 1, not 0"}


def test_path_and_body_give_one_call(server: Server) -> None:
    body = b'{"item": "nut"}'
    for method in ["PUT", "PATCH"]:
        answer = server.request(method, "/orders/7", body=body)
        assert (answer.status, answer.json()) == (202, {"id": 7, "item": "nut", "n": 1})
    found = faults(server.request("PUT", "/orders/7", body=b'{"id": 8, "item": "nut"}'))
    assert found == {"/id": "is given twice"}
    assert faults(server.request("PUT", "/orders/x", body=b"{}")).keys() == {"/id", "/item"}


def test_the_rest_of_a_path_is_one_argument_and_fixed_paths_come_first(server: Server) -> None:
    assert server.request("GET", "/files/a/b%20c").json() == "a/b c"
    assert server.request("GET", "/files/readme").body == b"hello, you\n"


def test_names_that_no_parameter_has_reach_only_handlers_that_take_them(server: Server) -> None:
    assert server.request("GET", "/anything?a=1&b=x").json() == {"a": 1, "b": "x"}
    assert ":memory" in str(faults(server.request("GET", "/anything?:memory=1")))


def test_methods_are_told(server: Server) -> None:
    answer = server.post("/forecast/a", {})
    assert "call it with GET" in problem(answer, "method_not_allowed", 405)["detail"]
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    answer = server.request("OPTIONS", "/orders/1")
    assert (answer.status, answer.headers["allow"]) == (204, "PUT, PATCH, OPTIONS")
    # A handler with routes of its own has no other.
    problem(server.post("/routed/forecast", {"asset": "a"}), "not_found", 404)


# === forms and files ===


def test_forms_are_arguments_as_text(server: Server) -> None:
    told = {"content-type": "application/x-www-form-urlencoded"}
    answer = server.post("/routed/size", raw=b"data=a%20b", headers=told)
    assert answer.json() == 3
    found = server.post("/routed/size", raw=b'{"data": ""}', headers=told)
    assert "application/json" in problem(found, "malformed", 400)["detail"]


def test_files_become_what_the_parameter_asks_for(server: Server) -> None:
    body, told = multipart(
        ("table", "t.csv", "application/octet-stream", CSV), ("title", None, None, b"T")
    )
    answer = server.post("/routed/measure", raw=body, headers=told)
    assert answer.json() == {"rows": 2, "columns": ["a", "b"], "title": "T"}
    body, told = multipart(("file", "x.bin", "application/x", b"123"), ("note", None, None, b"n"))
    answer = server.post("/routed/named", raw=body, headers=told)
    assert answer.json() == {"name": "x.bin", "size": 3, "note": "n"}
    body, told = multipart(("files", "a", None, b"1"), ("files", "b", None, b"\xff" * 70_000))
    assert server.post("/routed/sizes", raw=body, headers=told).json() == [1, 70_000]
    body, told = multipart(("text", "t.txt", "text/plain", "ä b".encode()))
    assert server.post("/routed/words", raw=body, headers=told).json() == 2


def test_a_body_that_is_a_file_is_the_first_argument(server: Server) -> None:
    for media in ["application/octet-stream", "image/png"]:
        answer = server.post("/routed/size", raw=b"\0" * 100_000, headers={"content-type": media})
        assert answer.json() == 100_000
    answer = server.post("/routed/words", raw=b"a b c", headers={"content-type": "text/plain"})
    assert answer.json() == 3


def test_files_that_do_not_fit_are_faults_and_broken_forms_malformed(server: Server) -> None:
    body, told = multipart(("table", "t.xyz", None, CSV), ("tilte", None, None, b""))
    found = faults(server.post("/routed/measure", raw=body, headers=told))
    assert "t.xyz" in found["/table"] and "Did you mean `title`?" in found["/tilte"]
    body, told = multipart(("table", "t.parquet", None, b"PAR1"))
    assert "is no table" in faults(server.post("/routed/measure", raw=body, headers=told))["/table"]
    body, told = multipart(("data", "a", None, b"1"), ("data", "b", None, b"2"))
    assert faults(server.post("/routed/size", raw=body, headers=told)) == {
        "/data": "takes one file, not 2"
    }
    for raw in [b"", b"--x--y\r\n", body[:-8], b"--other\r\n\r\n"]:
        answer = server.post("/routed/size", raw=raw, headers=told)
        assert answer.status in (400, 422), (raw, answer.body)
    bare = {"content-type": "multipart/form-data"}
    problem(server.post("/routed/size", raw=body, headers=bare), "malformed", 400)


# === answers ===


def test_routes_say_status_and_media_type(server: Server) -> None:
    answer = server.request("GET", "/picture")
    assert (answer.headers["content-type"], answer.body[:4]) == ("image/png", b"\x89PNG")
    problem(
        server.request("GET", "/picture", headers={"accept": "application/json"}),
        "not_acceptable",
        406,
    )
    assert server.request("DELETE", "/nothing").status in (200, 204)
    answer = server.request("GET", "/files/readme", headers={"accept": "text/html, */*;q=0.1"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "str" in problem(server.request("GET", "/wrong"), "result", 500)["detail"]


def test_events_carry_each_thing_and_the_failure(server: Server) -> None:
    told = {"accept": "text/event-stream"}
    answer = server.request("GET", "/ticks?n=2", headers=told)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.body == b'data: {"tick":0}\n\ndata: {"tick":1}\n\n'
    answer = server.request("GET", "/ticks?n=1&fail=true", headers=told)
    first, last = answer.body.decode().strip().split("\n\n")
    assert first == 'data: {"tick":0}'
    event, data = last.split("\n")
    assert event == "event: error"
    assert json.loads(data.removeprefix("data: "))["exception"]["message"] == "no more ticks"
    answer = server.post("/routed/events", {}, headers=told)
    assert answer.body.decode().split("\n\n")[:3] == [
        'event: start\nid: 1\ndata: {"a":1}',
        "retry: 500\ndata: [1,2]",
        'data: {"data":1,"other":2}',
    ]
    answer = server.post("/routed/async_ticks", {"n": 2}, headers=told)
    assert answer.body == b"data: 0\n\ndata: 1\n\n"


# === what a handler knows of its call ===


@pytest.mark.parametrize("name", ["who", "who_later", "who_in_pieces"])
def test_a_handler_knows_its_call(server: Server, name: str) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {"traceparent": parent, "tracestate": "a=1,b=2", "x-request-id": "req-1"}
    answer = server.post(f"/routed/{name}", {}, headers=headers)
    told = answer.json() if name != "who_in_pieces" else answer.json()[-1]
    assert told["id"] == answer.headers["exuvia-call-id"]
    assert told["handler"] == f"routed:{name}"
    assert (told["traceparent"], told["tracestate"]) == (parent, "a=1,b=2")
    assert told["request_id"] == "req-1" and 0 < told["time_left"] <= 30
    plain = server.post("/routed/who", {}).json()
    assert plain["traceparent"] is None and plain["request_id"] is None


@pytest.mark.parametrize("name", ["span", "span_later"])
def test_opentelemetry_knows_the_callers_span_and_forgets_it(server: Server, name: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "tracestate": "a=1"}
    # What nobody has imported is not looked for: the first call imports it.
    server.post(f"/routed/{name}", {})
    for _ in range(3):
        assert server.post(f"/routed/{name}", {}, headers=headers).json() == trace
        assert server.post(f"/routed/{name}", {}).json() == "0" * 32


# === limits of a route ===


def configured(tmp_path: Path, text: str) -> Path:
    """A project file beside nothing else."""
    file = tmp_path / "exuvia.toml"
    file.write_text(f'targets = ["{ROUTED}"]\n{text}')
    return file


def test_a_route_runs_as_many_calls_as_it_says_and_lets_as_many_wait(
    serve: Serve, tmp_path: Path
) -> None:
    limits = '[routes."routed/slow"]\nconcurrency = 2\nqueue = 2\ntimeout = "5s"\n'
    server = serve(configured(tmp_path, limits), args=["--workers", "1"])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.post("/routed/slow", {"seconds": 0.5}), range(8)))
    done = [answer.json() for answer in answers if answer.status == 200]
    assert len(done) == 4 and max(done) == 2
    refused = [answer for answer in answers if answer.status != 200]
    assert len(refused) == 4
    assert all(problem(answer, "rejected", 503) for answer in refused)


def test_waiting_for_a_route_counts_against_its_time(serve: Serve, tmp_path: Path) -> None:
    limits = '[routes."routed/slow"]\nconcurrency = 1\ntimeout = "600ms"\n'
    server = serve(configured(tmp_path, limits), args=["--workers", "1"])
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: server.post("/routed/slow", {"seconds": 0.4}), range(3)))
    kinds = sorted(answer.status for answer in answers)
    # The second begins with too little left, or the third never does.
    assert kinds[0] == 200 and set(kinds[1:]) <= {503, 504}


def test_a_call_gets_no_more_memory_than_its_route_allows(serve: Serve, tmp_path: Path) -> None:
    limits = '[routes."routed/fill"]\nmemory = "200MiB"\n'
    server = serve(configured(tmp_path, limits), args=["--workers", "1"])
    for _ in range(3):
        assert server.post("/routed/fill", {"mib": 100}).json() == 100 << 20
        found = problem(server.post("/routed/fill", {"mib": 400}), "exception", 500)
        assert found["exception"]["class"] == "MemoryError"
        assert f"{200 << 20} bytes" in found["exception"]["traceback"]
    # Another route has no such limit.
    body = b"\0" * (15 << 20)
    answer = server.post("/routed/size", raw=body, headers={"content-type": "image/x"})
    assert answer.json() == 15 << 20


def test_a_route_has_a_limit_of_its_own_for_bodies(serve: Serve, tmp_path: Path) -> None:
    limits = 'max-body = "1MiB"\n[routes."routed/size"]\nmax-body = "4MiB"\n'
    server = serve(configured(tmp_path, limits))
    told = {"content-type": "image/x"}
    assert server.post("/routed/size", raw=b"x" * (3 << 20), headers=told).json() == 3 << 20
    assert server.post("/routed/size", raw=b"x" * (5 << 20), headers=told).status == 413
    assert server.post("/routed/words", raw=b"x" * (3 << 20), headers=told).status == 413


# === the configuration ===


def test_the_configuration_gives_routes(serve: Serve, tmp_path: Path) -> None:
    text = """
[routes."GET /v1/hello/{name}"]
handler = "routed:hello"
media = "text/plain"

[routes."POST /v1/forecast"]
handler = "routed:forecast"
query = ["hours"]
"""
    server = serve(configured(tmp_path, text))
    assert server.request("GET", "/v1/hello/Ada").body == b"hello, Ada\n"
    assert server.post("/v1/forecast?hours=5", {"asset": "a"}).json()["hours"] == 5
    # It counts more than what the module says.
    assert server.request("GET", "/forecast/a").status == 404
    assert server.request("GET", "/files/readme").json() == "readme"


MISTAKES: list[tuple[str, str]] = [
    ('[routes."GET /forecast/{x}"]\nhandler = "routed:hello"', "has no parameter `x`"),
    ('[routes."GET /a/{name}"]\nhandler = "routed:helo"', "Did you mean `routed:hello`?"),
    (
        '[routes."GET /kind/{name}"]\nhandler = "routed:hello"',
        "the route GET /kind/{kind} (routed:which, in `__routes__` of routed) is there already: "
        "GET /kind/{name} (routed:hello, in exuvia.toml:2)",
    ),
    ('[routes."GET /docs"]\nhandler = "routed:hello"', "one of the server's own pages"),
    ('[routes."GET /_exuvia/x"]\nhandler = "routed:hello"', "one of the server's own pages"),
    ('[routes."GET /a{name}"]\nhandler = "routed:hello"', "neither text nor `{name}`"),
    ('[routes."GET /{*name}/b"]\nhandler = "routed:hello"', "comes last"),
    ('[routes."GET /a"]\nhandler = "routed:hello"\nquery = ["nmae"]', "Did you mean `name`?"),
    ('[routes."routed/siez"]\ntimeout = "1s"', "Did you mean `routed/size`?"),
    ('[routes."routed/forecast"]\ntimeout = "1s"', "routed:forecast has GET /forecast/{asset}"),
    ('[routes."routed/slow"]\nmemory = "1GiB"', "`async def`"),
    ('[routes."GET /a"]\nhandler = "routed:hello"\nmedia = "csv"', "`csv` is not a media type"),
    ('[routes."GET /a"]\nhandler = "routed:hello"\nstatus = 404', "exuvia.toml:4:10: `status`"),
]


@pytest.mark.parametrize("text, said", MISTAKES, ids=[said[:30] for _, said in MISTAKES])
def test_a_mistake_in_routes_is_an_error_at_start(
    exuvia_bin: Path, project_python: Path, tmp_path: Path, text: str, said: str
) -> None:
    import subprocess

    configured(tmp_path, text)
    command = [str(exuvia_bin), "serve", "--port", "0", "--python", str(project_python)]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2 and said in ended.stderr, ended.stderr


def test_a_mistake_in_a_modules_routes_is_an_error_at_start(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    import subprocess

    for table, said in [
        ('{"GET /a": "g"}', "has no function `g`"),
        ('{"GET /a": 1}', "leads to a int, not to a handler"),
        ('{"GET /a": {"handler": "f", "statsu": 1}}', "Did you mean `status`?"),
        ('{"a/f": "f"}', "write `GET /path`"),
        ("[]", "`__routes__` in "),
        ('{"GET /a/{x}": "f", "GET /a/{y}": "f"}', "has no parameter `x`"),
    ]:
        (tmp_path / "m.py").write_text(f"def f(): ...\n__routes__ = {table}\n")
        command = [str(exuvia_bin), "serve", "m.py", "--port", "0"]
        ended = subprocess.run(
            [*command, "--python", str(project_python)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode != 0 and said in ended.stderr, (table, ended.stderr)


# === modules that are broken ===


def test_one_broken_module_of_three_leaves_the_others_served(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("def f():\n    return 1\n")
    (tmp_path / "fine.py").write_text("async def g():\n    return 2\n")
    (tmp_path / "risk.py").write_text("import math\n\n\ndef h():\n    return 3\n\n\nmath.nope\n")
    config = tmp_path / "exuvia.toml"
    config.write_text(
        'targets = ["good.py", "risk.py", "fine.py"]\n'
        '[routes."GET /h/{x}"]\nhandler = "risk:h"\n'
        '[routes."risk/h"]\ntimeout = "1s"\n'
    )
    server = serve(config, args=["--workers", "2"])
    assert server.post("/good/f", {}).json() == 1
    assert server.post("/fine/g", {}).json() == 2
    for path in ["/risk/h", "/risk/other"]:
        found = problem(server.post(path, {}), "load", 503)
        assert "line 8" in found["traceback"] and "math" in found["traceback"]
    found = problem(server.request("GET", "/h/1"), "load", 503)
    assert "AttributeError" in found["traceback"]
    ready = server.get("/readyz")
    assert ready.status == 200
    text = ready.body.decode()
    assert "broken: risk: cannot import" in text and "line 8, in <module>" in text
    told = server.request("GET", "/readyz", headers={"accept": "application/json"}).json()
    assert [each["module"] for each in told["broken"]] == ["risk"]
    state = server.get("/_exuvia/state.json").json()
    assert "line 8" in state["broken"][0]["traceback"]
    assert "risk" in server.get("/").body.decode()
    assert "math.nope" in server.log()
    # The others keep being served by workers that come later.
    os.kill(server.workers()[0], 9)
    for _ in range(20):
        assert server.post("/good/f", {}).json() == 1


def test_where_every_module_is_broken_there_is_nothing_to_serve(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    import subprocess

    for name in ["a", "b"]:
        (tmp_path / f"{name}.py").write_text("1 / 0\n")
    ended = subprocess.run(
        [str(exuvia_bin), "serve", "a.py", "b.py", "--port", "0", "--python", str(project_python)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0 and "ZeroDivisionError" in ended.stderr


def test_listing_shows_routes_as_they_are(exuvia_bin: Path, project_python: Path) -> None:
    import subprocess

    def run(*args: str) -> Any:
        command = [str(exuvia_bin), *args, "--python", str(project_python)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    listed = run("serve", str(ROUTED), "--list").stdout
    assert "PUT,PATCH /orders/{id}" in listed and "/routed/forecast" not in listed
    rows = json.loads(run("serve", str(ROUTED), "--list", "--json").stdout)
    assert {"method": "GET", "path": "/kind/{kind}"}.items() <= next(
        row.items() for row in rows if row["handler"] == "routed:which"
    )
    document = json.loads(run("openapi", str(ROUTED)).stdout)
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]["/orders/{id}"]) >= {"put", "patch"}
