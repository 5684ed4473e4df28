"""Some of what desk.yaml describes."""

gone: list[str] = []


def get_forecast(
    asset_id: str, hours_ahead: int, quantile: list[float] | None = None, x_model: str = "mean"
) -> dict[str, object]:
    """Tell the arguments, so that a test sees what came from where."""
    return {
        "asset": asset_id,
        "hours": hours_ahead,
        "quantile": quantile,
        "model": x_model,
    }


def withdraw(order: str) -> None:
    """Take an order back."""
    gone.append(order)


def spare(n: int = 1) -> int:
    """Be led to by no operation."""
    return n
