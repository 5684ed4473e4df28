"""What a machine has for sandboxes."""

from __future__ import annotations

from dataclasses import dataclass

from exuvia import _native

__all__ = ["Layer", "Support", "UnavailableError", "require", "support"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the sandbox.

    Attributes:
        name: As in the page on security: `seccomp`, `Landlock`, `user namespace`, ...
        up: Whether this machine has it.
        detail: Which version, or why it is not there.
    """

    name: str
    up: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Support:
    """What a machine has for sandboxes.

    Attributes:
        tier: `full`: all layers; `reduced`: all but namespaces; `none`: no sandbox.
        layers: Each of them.
        landlock_abi: The version of Landlock, 0 if there is none.
    """

    tier: str
    layers: tuple[Layer, ...]
    landlock_abi: int


def support() -> Support:
    """Look which layers this user has on this machine. Tried out once, in some milliseconds."""
    tier, layers, landlock_abi = _native.sandbox_support()
    return Support(tier, tuple(Layer(*layer) for layer in layers), landlock_abi)


class UnavailableError(RuntimeError):
    """This machine has no sandbox; the text says which layers are missing."""


def require() -> None:
    """Raise `UnavailableError` where there is no sandbox."""
    known = support()
    if known.tier == "none":
        missing = "; ".join(
            f"{layer.name} ({layer.detail})" for layer in known.layers if not layer.up
        )
        raise UnavailableError(
            f"this machine has no sandbox, so code that nobody vouches for cannot run here: it "
            f"lacks {missing}. For code that you trust, say trusted=True"
        )
