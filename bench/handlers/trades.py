"""The handler with typed bodies as Exuvia takes it: dataclasses, and bounds in `Annotated`."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from words import Currency, Kind, Product, Rating, Unit, confirmation_of

__all__ = ["confirm"]


@dataclass
class Address:
    street: str
    city: str
    postcode: Annotated[str, {"minLength": 3, "maxLength": 10}]
    country: Annotated[str, re.compile("^[A-Z]{2}$")]


@dataclass
class Party:
    name: Annotated[str, {"minLength": 1, "maxLength": 100}]
    lei: Annotated[str, {"minLength": 20, "maxLength": 20}]
    rating: Rating
    address: Address
    email: str | None = None


@dataclass
class Leg:
    number: Annotated[int, {"minimum": 1}]
    product: Product
    quantity: Annotated[float, {"exclusiveMinimum": 0, "maximum": 10_000}]
    unit: Unit
    price: Annotated[float, {"minimum": -500, "maximum": 4_000}]
    start: datetime
    end: datetime
    settled: bool = False
    note: str | None = None


@dataclass
class Trade:
    id: UUID
    version: Annotated[int, {"minimum": 1}]
    kind: Kind
    currency: Currency
    traded_at: datetime
    settles_on: date
    buyer: Party
    seller: Party
    legs: Annotated[list[Leg], {"minItems": 1, "maxItems": 50}]
    fees: dict[str, float]
    tags: list[str]
    margin: Annotated[float, {"minimum": 0, "maximum": 1}] | None = None


@dataclass
class Line:
    leg: int
    product: Product
    energy: float
    price: float
    amount: float
    due: datetime
    open: bool
    note: str | None


@dataclass
class Confirmation:
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
