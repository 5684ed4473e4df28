"""The same handlers for FastAPI: as its documentation writes them, and as quick as they can be.

`async def` throughout: a plain `def` would go through a thread pool. Answers are made by hand where
that is quicker than FastAPI's own way.
"""

import data
import orjson
import pandas as pd
import pyarrow as pa
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

# No documentation pages: they cost nothing per request, and nobody asks for them here.
app = FastAPI(openapi_url=None)

COLUMNS = data.columns(data.YEAR)
YEAR = pd.DataFrame(COLUMNS, copy=False)


class Hour(BaseModel):
    load: float
    pv: float
    wind: float
    price: float
    temp: float
    heat: float
    charge: float
    grid: float


class Series(BaseModel):
    load: list[float]
    pv: list[float]
    wind: list[float]
    price: list[float]
    temp: list[float]
    heat: list[float]
    charge: list[float]
    grid: list[float]


def total(frame: pd.DataFrame) -> float:
    """The handler."""
    return float(sum(frame[name].to_numpy().sum() for name in frame))


# === in ===


@app.post("/rows/model")
async def rows_by_model(rows: list[Hour]) -> float:
    return total(pd.DataFrame([row.__dict__ for row in rows]))


@app.post("/columns/model")
async def columns_by_model(series: Series) -> float:
    return total(pd.DataFrame(series.__dict__))


@app.post("/json/orjson")
async def by_orjson(request: Request) -> float:
    # Rows or columns: pandas takes either.
    return total(pd.DataFrame(orjson.loads(await request.body())))


@app.post("/arrow")
async def by_arrow(request: Request) -> float:
    table = pa.ipc.open_stream(await request.body()).read_all()
    return total(table.to_pandas(split_blocks=True))


# === out ===


@app.post("/year/rows")
async def year_in_rows() -> Response:
    return Response(YEAR.to_json(orient="records", double_precision=15), media_type=JSON)


@app.post("/year/rows/orjson")
async def year_in_rows_by_orjson() -> Response:
    return Response(orjson.dumps(YEAR.to_dict("records")), media_type=JSON)


@app.post("/year/columns")
async def year_in_columns() -> Response:
    columns = {name: YEAR[name].to_numpy() for name in YEAR}
    return Response(orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY), media_type=JSON)


@app.post("/year/arrow")
async def year_in_arrow() -> Response:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(YEAR)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Response(sink.getvalue().to_pybytes(), media_type=ARROW)


JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
