"""Tables in every format, into and out of every library, over HTTP and by `exuvia call`."""

import functools
import itertools
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Call
from oracles import check_spread
from problems import problem
from processes import Answer, Server, serving
from table_formats import (
    CSV,
    FILE,
    FORMATS,
    NPY,
    PARQUET,
    ROWS,
    STREAM,
    Format,
    as_npy,
    as_stream,
    read_npy,
)
from vega_datasets import data

HANDLERS = Path(__file__).parent / "handlers"
LIBRARIES = ["pandas", "polars", "pyarrow"]
WORDS = list(FORMATS)

SUM = 455713.5
READINGS = 8759


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server for all tests, which leave it as it was."""
    targets = [HANDLERS / f"tables_{name}.py" for name in [*LIBRARIES, "kinds"]]
    command = [str(exuvia_bin), "serve", *map(str, targets), "--port", "0", "--workers", "2"]
    command += ["--python", str(project_python)]
    with serving(command) as running:
        yield running


@functools.cache
def temps() -> Any:
    """The hourly temperatures of Seattle in 2010."""
    table = pa.Table.from_pandas(data.seattle_temps()).replace_schema_metadata()
    assert table.num_rows == READINGS
    return table


@functools.cache
def body(word: str) -> bytes:
    """The same in a format."""
    return FORMATS[word].write(temps())


def sent(server: Server, path: str, given: str, wanted: str) -> Answer:
    """Send the temperatures in one format, ask for the answer in another."""
    headers = {"content-type": FORMATS[given].media, "accept": FORMATS[wanted].media}
    return server.post(path, raw=body(given), headers=headers)


def check_rows(rows: list[dict[str, Any]]) -> None:
    """Check the daily spread, and what the handler saw of its input."""
    check_spread([{**row, "date": str(row["date"])} for row in rows])
    assert [str(row["date"]) for row in rows] == sorted(str(row["date"]) for row in rows)
    [seen] = {row["seen"] for row in rows}
    assert seen == pytest.approx(SUM, abs=1e-6)


# === the oracle, over HTTP ===


@pytest.mark.parametrize("given", WORDS)
@pytest.mark.parametrize(
    "path",
    [
        "tables_pandas/spread",
        "tables_polars/spread",
        "tables_polars/spread_lazily",
        "tables_pyarrow/spread",
        "tables_pyarrow/spread_of_batch",
        "tables_pyarrow/spread_of_reader",
    ],
)
def test_every_format_gives_every_library_the_same_and_back_in_every_format(
    server: Server, path: str, given: str
) -> None:
    def asked(wanted: Format) -> tuple[Format, Answer]:
        return wanted, sent(server, f"/{path}", given, wanted.word)

    with ThreadPoolExecutor(2) as two:
        for wanted, answer in two.map(asked, FORMATS.values()):
            assert answer.status == 200, (wanted.word, answer.body[:500])
            assert answer.headers["content-type"] == wanted.media
            check_rows(wanted.read(answer.body))


@pytest.mark.parametrize("given", ["arrow-stream", "arrow", "parquet", "csv", "json-rows"])
def test_a_handler_that_asks_for_nothing_gets_a_frame_of_pandas(server: Server, given: str) -> None:
    for wanted in ["json-rows", "arrow-stream"]:
        answer = sent(server, "/tables_pandas/spread_of_anything", given, wanted)
        assert answer.status == 200, answer.body[:500]
        check_rows(FORMATS[wanted].read(answer.body))


def test_json_stays_lists_and_dicts_where_no_table_is_asked_for(server: Server) -> None:
    headers = {"content-type": "application/json"}
    answer = server.post(
        "/tables_pandas/spread_of_anything", raw=body("json-rows"), headers=headers
    )
    assert problem(answer, "exception", 500)["exception"]["message"] == "a list came"
    lines = {"content-type": FORMATS["ndjson"].media}
    answer = server.post("/tables_pandas/spread_of_anything", raw=body("ndjson"), headers=lines)
    assert problem(answer, "exception", 500)["exception"]["message"] == "a list came"


@pytest.mark.parametrize("library", LIBRARIES)
def test_plain_json_is_a_table_where_one_is_asked_for_and_json_is_the_usual_answer(
    server: Server, library: str
) -> None:
    for given in ["json-rows", "json-columns"]:
        answer = server.post(f"/tables_{library}/spread", raw=body(given))
        assert answer.headers["content-type"] == "application/json"
        check_rows(answer.json())


# === the oracle, by the command ===


def called(call: Call, folder: Path, library: str, given: Format, wanted: Format) -> bytes:
    """Run ``exuvia call`` with files by their endings, or by words where there are none."""
    source, result = folder / f"in.{given.ending}", folder / f"out.{wanted.ending}"
    source.write_bytes(body(given.word))
    args = ["--in", str(source), "--out", str(result)]
    args += [] if given.ending else ["--in-format", given.word]
    args += [] if wanted.ending else ["--out-format", wanted.word]
    done = call(f"{HANDLERS}/tables_{library}.py:spread", *args)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert source.read_bytes() == body(given.word)
    return result.read_bytes()


# Each library sees every format come in, and each is written by every library.
TURNS = [
    (library, given, WORDS[(at + 2 * turn + 1) % len(WORDS)])
    for turn, library in enumerate(LIBRARIES)
    for at, given in enumerate(WORDS)
]


@pytest.mark.parametrize("library, given, wanted", TURNS)
def test_files_of_every_format_go_through_every_library(
    call: Call, tmp_path: Path, library: str, given: str, wanted: str
) -> None:
    raw = called(call, tmp_path, library, FORMATS[given], FORMATS[wanted])
    rows = FORMATS[wanted].read(raw)
    check_rows(rows)
    assert {row["others"] for row in rows} == {"none"}, "imported without need"


@pytest.mark.parametrize("word", ["arrow-stream", "parquet", "csv"])
def test_tables_go_through_pipes(exuvia_bin: Path, project_python: Path, word: str) -> None:
    target = f"{HANDLERS}/tables_pyarrow.py:spread"
    command: list[str | Path] = [exuvia_bin, "call", target, "--in", "-"]
    command += ["--in-format", word, "--out-format", word, "--python", project_python]
    done = subprocess.run(command, input=body(word), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    check_rows(FORMATS[word].read(done.stdout))


# === what a handler may ask for ===

KINDS = {
    "of_arro3": "arro3.Table",
    "of_arro3_batch": "arro3.RecordBatch",
    "of_arro3_reader": "arro3.RecordBatchReader",
    "of_batch": "pyarrow.RecordBatch",
    "of_reader": "pyarrow.RecordBatchReader",
    "of_lazy": "polars.LazyFrame",
    "of_streams": "exuvia.Table",
    "of_ours": "exuvia.Table",
    "of_mine": "tables_kinds.Mine",
    "of_rows": "builtins.list",
    "of_columns": "builtins.dict",
    "of_either": "polars.DataFrame",
    "of_frame_later": "pandas.DataFrame",
    "of_arrays": "builtins.dict",
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_asked_for_comes_from_every_format(server: Server, name: str) -> None:
    for word in WORDS:
        headers = {"content-type": FORMATS[word].media}
        answer = server.post(f"/tables_kinds/{name}", raw=body(word), headers=headers)
        assert answer.status == 200, (word, answer.body)
        found = answer.json()
        assert found["rows"] == READINGS, word
        assert found["sum"] == pytest.approx(SUM, abs=1e-6), word
        assert found["kind"] == KINDS[name], word


def test_arrays_by_name_are_of_the_columns_types(server: Server) -> None:
    headers = {"content-type": STREAM}
    found = server.post("/tables_kinds/of_arrays", raw=body("arrow-stream"), headers=headers)
    assert found.json()["dtypes"] == {"date": "datetime64[us]", "temp": "float64"}


@pytest.mark.parametrize("names", [["temp"], ["temp", "more"]])
def test_a_table_of_numbers_is_a_matrix_and_one_column_a_vector(
    server: Server, names: list[str]
) -> None:
    table = pa.table({name: temps()["temp"] for name in names})
    answer = server.post("/tables_kinds/of_array", raw=as_stream(table), headers={
        "content-type": STREAM,
    })  # fmt: skip
    found = answer.json()
    shape = [READINGS] if len(names) == 1 else [READINGS, len(names)]
    assert (found["kind"], found["shape"], found["dtype"]) == ("numpy.ndarray", shape, "float64")
    assert found["sum"] == SUM * len(names)


# === what a handler may give ===

TABLE = [{"n": 1, "x": 0.5}, {"n": 2, "x": 1.5}, {"n": 3, "x": -2.0}]
SERIES = [{"x": 0.5}, {"x": 1.5}, {"x": -2.0}]
OTHERS = {
    "pandas.Series": SERIES,
    "polars.Series": SERIES,
    "vector": [{"value": row["x"]} for row in SERIES],
    "matrix": [{"0": row["x"], "1": row["x"]} for row in SERIES],
}
# Of these each value is a line of its own.
LINES = {
    "pandas.Series": [0.5, 1.5, -2.0],
    "polars.Series": [0.5, 1.5, -2.0],
    "vector": [0.5, 1.5, -2.0],
    "matrix": [[0.5, 0.5], [1.5, 1.5], [-2.0, -2.0]],
    "structured array": [[1, 0.5], [2, 1.5], [3, -2.0]],
}
GIVEN = [
    "pandas.DataFrame", "pandas.Series", "polars.DataFrame", "polars.LazyFrame", "polars.Series",
    "pyarrow.Table", "pyarrow.RecordBatch", "pyarrow.RecordBatchReader", "arro3.Table",
    "arro3.RecordBatch", "arro3.RecordBatchReader", "exuvia.Table", "a class", "rows",
    "dict of lists", "dict of arrays", "structured array", "vector", "matrix",
]  # fmt: skip


@pytest.mark.parametrize("kind", GIVEN)
def test_every_kind_of_table_is_a_result_in_every_format(server: Server, kind: str) -> None:
    table = OTHERS.get(kind, TABLE)
    for form in FORMATS.values():
        headers = {"accept": form.media}
        answer = server.post("/tables_kinds/gives", {"kind": kind}, headers=headers)
        if form.word == "ndjson" and kind.startswith("dict of"):
            assert "one document per line" in problem(answer, "result", 500)["detail"]
            continue
        assert answer.status == 200, (form.word, answer.body)
        expected = LINES.get(kind, table) if form.word == "ndjson" else table
        assert form.read(answer.body) == expected, form.word


# === arrays ===

ARRAYS = {
    "vector": np.arange(20_000.0),
    "small": np.arange(3.0),
    "matrix": np.arange(24_000.0).reshape(-1, 3),
    "columns first": np.asfortranarray(np.arange(24_000.0).reshape(-1, 3)),
    "four dimensions": np.arange(20_000.0).reshape(2, 5, 4, -1),
    "float32": np.linspace(0, 1, 30_000, dtype="f4"),
    "complex": np.arange(9_000) * (1 + 2j),
    "big-endian": np.arange(20_000, dtype=">f8"),
    "none": np.zeros((0, 3)),
    "a number": np.array(1.5),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_goes_in_and_out_as_it_is(server: Server, name: str) -> None:
    array = ARRAYS[name]
    headers = {"content-type": NPY, "accept": NPY}
    answer = server.post("/tables_kinds/scaled", raw=as_npy(array), headers=headers)
    assert answer.status == 200, answer.body
    found = read_npy(answer.body)
    expected = array * 2.0
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found, expected)


def test_an_array_goes_through_files(call: Call, tmp_path: Path) -> None:
    array = np.arange(20_000.0).reshape(2, -1)
    np.save(tmp_path / "in.npy", array)
    args = ["--in", str(tmp_path / "in.npy"), "--out", str(tmp_path / "out.npy")]
    done = call(f"{HANDLERS}/tables_kinds.py:scaled", *args)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), array * 2)


# === what does not fit is said ===


@pytest.mark.parametrize("media", [STREAM, FILE, PARQUET, CSV])
def test_a_result_that_is_no_table_is_not_written_as_one(server: Server, media: str) -> None:
    for name, kind in [("gives_number", "int"), ("gives_text", "str")]:
        answer = server.post(f"/tables_kinds/{name}", headers={"accept": media})
        found = problem(answer, "result", 500)
        assert found["responsible"] == "guest"
        assert f"`{kind}` is no table" in found["detail"]


def test_a_result_that_is_no_array_is_not_written_as_one(server: Server) -> None:
    answer = server.post("/tables_kinds/gives_record", headers={"accept": NPY})
    assert "object" in problem(answer, "result", 500)["detail"]


def test_formats_nobody_knows_are_refused_with_those_that_are_known(server: Server) -> None:
    found = problem(
        server.post("/tables_kinds/gives_number", headers={"accept": "application/vnd.ms-excel"}),
        "not_acceptable",
        406,
    )
    assert PARQUET in found["detail"] and CSV in found["detail"]
    excel = {"content-type": "application/vnd.ms-excel"}
    answer = server.post("/tables_kinds/of_rows", raw=b"x", headers=excel)
    assert "send CSV" in problem(answer, "unsupported_media_type", 415)["detail"]


def test_csv_has_no_place_for_a_list_and_says_in_which_column(server: Server) -> None:
    answer = server.post("/tables_kinds/gives_nested", headers={"accept": CSV})
    detail = problem(answer, "result", 500)["detail"]
    assert "path" in detail and "CSV" in detail


@pytest.mark.parametrize("word", ["json-rows", "json-columns", "ndjson"])
def test_json_has_nan_as_null_and_refuses_an_infinity_by_its_column(
    server: Server, word: str
) -> None:
    form = FORMATS[word]
    headers = {"accept": form.media}
    answer = server.post("/tables_kinds/gives_float", {"value": "nan"}, headers=headers)
    assert form.read(answer.body) == [{"n": 1, "level": 0.5}, {"n": 2, "level": None}]
    answer = server.post("/tables_kinds/gives_float", {"value": "-inf"}, headers=headers)
    detail = problem(answer, "result", 500)["detail"]
    assert "level" in detail and "inf" in detail


def test_arrow_keeps_nan_and_infinities(server: Server) -> None:
    for word, value in itertools.product(["arrow-stream", "parquet"], ["nan", "inf"]):
        headers = {"accept": FORMATS[word].media}
        answer = server.post("/tables_kinds/gives_float", {"value": value}, headers=headers)
        found = [row["level"] for row in FORMATS[word].read(answer.body)]
        assert str(found) == f"[0.5, {value}]"


def test_a_column_of_no_type_is_named(server: Server) -> None:
    answer = server.post("/tables_kinds/gives_objects", headers={"accept": STREAM})
    detail = problem(answer, "result", 500)["detail"]
    assert 'column "thing"' in detail and "object" in detail


def test_columns_that_are_not_equally_long_are_named(server: Server) -> None:
    answer = server.post("/tables_kinds/gives_ragged", headers={"accept": PARQUET})
    detail = problem(answer, "result", 500)["detail"]
    assert 'column "b" has 1 values, and column "a" has 2' in detail


def test_a_handler_without_place_for_a_table_says_so(server: Server) -> None:
    headers = {"content-type": STREAM}
    answer = server.post("/tables_kinds/takes_none", raw=body("arrow-stream"), headers=headers)
    assert "takes no arguments" in json.dumps(problem(answer, "input", 422)["errors"])
    answer = server.post("/tables_kinds/takes_number", raw=body("arrow-stream"), headers=headers)
    [fault] = problem(answer, "input", 422)["errors"]
    assert fault["pointer"] == "/n"
    assert fault["detail"] == "must be an integer, not a table"


def test_a_column_that_a_library_does_not_have_is_named(server: Server) -> None:
    table = pa.table({"fine": [1], "odd": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    headers = {"content-type": STREAM}
    answer = server.post("/tables_kinds/takes_polars", raw=as_stream(table), headers=headers)
    [fault] = problem(answer, "input", 422)["errors"]
    assert fault["pointer"] == "/table"
    assert 'column "odd"' in fault["detail"] and "polars has no interval" in fault["detail"]


def test_rows_that_make_no_table_are_a_fault_of_the_argument(server: Server) -> None:
    headers = {"content-type": ROWS}
    answer = server.post("/tables_kinds/takes_polars", raw=b"[1, 2]", headers=headers)
    assert answer.status in (400, 422), answer.body
    answer = server.post("/tables_kinds/takes_polars", [{"a": 1}, 2])
    [fault] = problem(answer, "input", 422)["errors"]
    assert fault["pointer"] == "/table" and "is not a table" in fault["detail"]
