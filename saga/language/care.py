"""Care: which parameters a step's tasks need, so that a repeated attempt, or an undo with nothing to undo, does no harm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saga.errors import CarelessStep, DefinitionWarning
from saga.language.wiring import Wire

_KEYS = ("idempotency_key", "action_key")
_MEANT = "if it is safe by other means, such as saga.current() or a unique column, say careless=True"


def missing_care(place: str, step: str, action: Sequence[Wire], undo: Sequence[Wire]) -> Iterator[DefinitionWarning]:
    """What to warn of in a step that has an undo, and so an effect.

    Args:
        place: the saga and the step, in words.
        action: where the action's arguments come from; likewise ``undo``.
    """
    if not any(map(_is_key, action)):
        yield CarelessStep(
            f"{place}: its task takes no idempotency_key, so a repeated attempt may have its effect twice",
            f"take the key and hand it to whatever has the effect; {_MEANT}",
        )
    if not any(_is_key(wire) or _is_result(wire, step) for wire in undo):
        yield CarelessStep(
            f"{place}: its undo takes neither the step's result nor a key, so it cannot tell whether there is anything to undo",
            f"take {step!r}, which is None when nobody knows, or action_key; {_MEANT}",
        )


def _is_key(wire: Wire) -> bool:
    return wire.source.origin == "reserved" and wire.source.name in _KEYS


def _is_result(wire: Wire, step: str) -> bool:
    source = wire.source
    return (source.origin, source.name) in (("step", step), ("reserved", "result"))
