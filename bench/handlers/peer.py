"""The same handler for the peers, as FastAPI's own documentation writes one."""

from fastapi import FastAPI
from pydantic import BaseModel

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
