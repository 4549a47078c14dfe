"""Care: which parameters a step's tasks need, so that a repeated attempt, or an undo with nothing to undo, does no harm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from saga.errors import CarelessStep, DefinitionWarning
from saga.language.source import Wire

_KEYS = ("idempotency_key", "action_key")
_MEANT = "if it is safe by other means, such as saga.current() or a unique column, say careless=True"


def missing_care(place: str, step: str, wires: Mapping[str, Sequence[Wire]]) -> Iterator[DefinitionWarning]:
    """What to warn of in a step that has an effect, as it has an undo, a confirmation or a check.

    Args:
        place: the saga and the step, in words.
        wires: where the arguments of its ``action``, its ``undo``, its ``confirm`` and its ``check`` come from, of those it has.
    """
    if len(wires) > 1 and not any(map(_is_key, wires["action"])):
        yield CarelessStep(
            f"{place}: its task takes no idempotency_key, so a repeated attempt may have its effect twice",
            f"take the key and hand it to whatever has the effect; {_MEANT}",
        )
    if "undo" in wires and not _tells(wires["undo"], step):
        yield CarelessStep(
            f"{place}: its undo takes neither the step's result nor a key, so it cannot tell whether there is anything to undo",
            f"take {step!r}, which is None when nobody knows, or action_key; {_MEANT}",
        )
    if "confirm" in wires and not _tells(wires["confirm"], step):
        yield CarelessStep(
            f"{place}: its confirm takes neither the step's result nor a key, so it cannot tell what to confirm",
            f"take {step!r}, or action_key; {_MEANT}",
        )
    if not wires.get("check", ("nothing to ask",)):
        yield CarelessStep(
            f"{place}: its check takes nothing, so it cannot tell what to ask for",
            f"take idempotency_key, which is that of the action; {_MEANT}",
        )


def _tells(wires: Sequence[Wire], step: str) -> bool:
    return any(_is_key(wire) or _is_result(wire, step) for wire in wires)


def _is_key(wire: Wire) -> bool:
    return wire.source.origin == "reserved" and wire.source.name in _KEYS


def _is_result(wire: Wire, step: str) -> bool:
    source = wire.source
    return (source.origin, source.name) in (("step", step), ("reserved", "result"))
