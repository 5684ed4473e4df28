"""The models of `trades.py` in pydantic's words, for FastAPI and for Exuvia."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from words import Currency, Kind, Product, Rating, Unit, confirmation_of

__all__ = ["confirm"]


class Model(BaseModel):
    # As the others: an unknown field is a mistake.
    model_config = ConfigDict(extra="forbid")


class Address(Model):
    street: str
    city: str
    postcode: Annotated[str, Field(min_length=3, max_length=10)]
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")]


class Party(Model):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    lei: Annotated[str, Field(min_length=20, max_length=20)]
    rating: Rating
    address: Address
    email: str | None = None


class Leg(Model):
    number: Annotated[int, Field(ge=1)]
    product: Product
    quantity: Annotated[float, Field(gt=0, le=10_000)]
    unit: Unit
    price: Annotated[float, Field(ge=-500, le=4_000)]
    start: datetime
    end: datetime
    settled: bool = False
    note: str | None = None


class Trade(Model):
    id: UUID
    version: Annotated[int, Field(ge=1)]
    kind: Kind
    currency: Currency
    traded_at: datetime
    settles_on: date
    buyer: Party
    seller: Party
    legs: Annotated[list[Leg], Field(min_length=1, max_length=50)]
    fees: dict[str, float]
    tags: list[str]
    margin: Annotated[float, Field(ge=0, le=1)] | None = None


class Line(Model):
    leg: int
    product: Product
    energy: float
    price: float
    amount: float
    due: datetime
    open: bool
    note: str | None


class Confirmation(Model):
    trade: UUID
    version: int
    kind: Kind
    currency: Currency
    traded_at: datetime
    due: date
    buyer: Party
    seller: Party
    lines: list[Line]
    gross: float
    fees: float
    total: float
    margin_call: float | None
    tags: list[str]


def confirm(trade: Trade) -> Confirmation:
    """Confirm a trade."""
    return confirmation_of(trade, Confirmation, Line)
