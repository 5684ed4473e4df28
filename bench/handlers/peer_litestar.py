"""The same handlers for Litestar, as its own documentation writes them with msgspec."""

from litestar import Litestar, post
from msgspec import Struct
from trades_msgspec import Confirmation, Line, Trade
from words import confirmation_of


class Greeting(Struct):
    name: str
    n: int


class Reply(Struct):
    message: str
    n: int


@post("/handler/greet", status_code=200)
async def greet(data: Greeting) -> Reply:
    return Reply(message="hello, " + data.name, n=data.n + 1)


@post("/trades/confirm", status_code=200)
async def confirm(data: Trade) -> Confirmation:
    return confirmation_of(data, Confirmation, Line)


# No documentation pages, and no sessions, logs or telemetry: only what the handlers need.
app = Litestar([greet, confirm], openapi_config=None)
