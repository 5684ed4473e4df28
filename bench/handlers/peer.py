"""The same handlers for FastAPI, as its own documentation writes them."""

from fastapi import FastAPI
from pydantic import BaseModel
from trades_pydantic import Confirmation, Line, Trade
from words import confirmation_of

# No documentation pages: they cost nothing per request, and nobody asks for them here.
app = FastAPI(openapi_url=None)


class Greeting(BaseModel):
    name: str
    n: int


class Reply(BaseModel):
    message: str
    n: int


# `async def`: a plain `def` would go through a thread pool, which is far slower.
@app.post("/handler/greet")
async def greet(greeting: Greeting) -> Reply:
    return Reply(message="hello, " + greeting.name, n=greeting.n + 1)


@app.post("/trades/confirm")
async def confirm(trade: Trade) -> Confirmation:
    return confirmation_of(trade, Confirmation, Line)
