"""What the models of all contenders share: their words, and how a trade is confirmed."""

import enum
from datetime import timedelta
from typing import Any, Literal


class Kind(enum.Enum):
    SPOT = "spot"
    FORWARD = "forward"
    OPTION = "option"


class Product(enum.Enum):
    BASE = "base"
    PEAK = "peak"
    SOLAR = "solar"
    WIND = "wind"


Currency = Literal["EUR", "GBP", "NOK", "USD"]
Unit = Literal["MWh", "MW"]
Rating = Literal["A", "B", "C", "unrated"]

HOUR = timedelta(hours=1)
DUE = timedelta(days=14)


def confirmation_of(trade: Any, confirmation: Any, line: Any) -> Any:
    """Confirm a trade, in the classes of whoever asks.

    It is the same Python for all and it is short, so that they differ in reading, checking and
    writing alone.
    """
    lines = []
    for leg in trade.legs:
        energy = leg.quantity
        if leg.unit == "MW":
            energy *= (leg.end - leg.start) / HOUR
        lines.append(
            line(
                leg=leg.number,
                product=leg.product,
                energy=energy,
                price=leg.price,
                amount=energy * leg.price,
                due=leg.end + DUE,
                open=not leg.settled,
                note=leg.note,
            )
        )
    gross = sum([line.amount for line in lines])
    fees = sum(trade.fees.values())
    return confirmation(
        trade=trade.id,
        version=trade.version + 1,
        kind=trade.kind,
        currency=trade.currency,
        traded_at=trade.traded_at,
        due=trade.settles_on + DUE,
        buyer=trade.buyer,
        seller=trade.seller,
        lines=lines,
        gross=gross,
        fees=fees,
        total=gross + fees,
        margin_call=None if trade.margin is None else gross * trade.margin,
        tags=[*trade.tags, "confirmed"],
    )
