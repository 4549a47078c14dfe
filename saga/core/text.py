"""Text: JSON and text as Postgres can store them, measured and cleaned."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

JSON = Any
"""A JSON value as Python's ``json`` module reads it."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Unencodable(ValueError):
    """The value has no JSON form that Postgres can store."""


def refuse_large(value: object, limit: int) -> None:
    """Refuse a value that is far too large before any work is done on it. Small values are measured when they are encoded.

    Raises:
        Unencodable: its JSON form takes more than ``limit`` bytes, whatever is in it besides plain values.
    """
    size = 0
    ahead = [value]
    while ahead:
        item = ahead.pop()
        kind = type(item)
        if kind is str or kind is bytes:
            size += len(item) + 2  # type: ignore[arg-type]
        elif kind is dict:
            size += max(2, 2 * len(item) + 1)  # type: ignore[arg-type]
            ahead.extend(item)  # type: ignore[arg-type]
            ahead.extend(item.values())  # type: ignore[attr-defined]
        elif kind in _MANY:
            size += max(2, len(item) + 1)  # type: ignore[arg-type]
            ahead.extend(item)  # type: ignore[arg-type]
        else:
            size += 1
        if size > max(limit, _SMALL):
            raise Unencodable(f"it is over saga_max_payload = {limit:,} bytes of JSON; {_ELSEWHERE}")


_SMALL = 64 * 1024
_MANY = frozenset({list, tuple, set, frozenset})
_ELSEWHERE = "store it elsewhere and pass a reference"


def dumps(value: JSON, limit: int | None = None) -> str:
    """JSON text for a ``jsonb`` column.

    Raises:
        Unencodable: Postgres refuses such a text, or it is longer than ``limit`` bytes.
    """
    try:
        text = _encode(value)
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise Unencodable("it holds half a surrogate pair, which is no text") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise Unencodable(str(error)) from None
    if "\\u0000" in text and _NUL.search(text):
        raise Unencodable("it holds a NUL character, which Postgres cannot store; encode binary data, say in base64")
    if limit is not None and size > limit:
        raise Unencodable(f"it is {size:,} bytes of JSON, over saga_max_payload = {limit:,}; {_ELSEWHERE}")
    return text


def portable(value: JSON) -> str:
    """JSON text in ASCII, which a session of any client encoding can send; see ``dumps``."""
    text = dumps(value)
    return text if text.isascii() else _encode_ascii(value)


def canonical(value: JSON) -> str:
    """JSON text that is equal for equal values: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: JSON) -> str:
    """A hash of a JSON value, 32 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def clean_text(text: object, limit: int = 4000) -> str:
    """Any text made fit for storing: no NUL, no broken surrogates, its end cut off at ``limit`` characters."""
    try:
        found = str(text)
    except Exception as error:
        found = f"<{type(text).__name__} that cannot be shown: {type(error).__name__}>"
    found = found.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    return found if len(found) <= limit else found[:limit] + " …"


def ascii_only(value: JSON) -> JSON:
    """JSON in whose texts all characters but ASCII are written as numbers, which a database in any encoding can store."""
    if isinstance(value, str):
        return value.encode("ascii", "backslashreplace").decode()
    if isinstance(value, dict):
        return {ascii_only(name): ascii_only(item) for name, item in value.items()}
    return [ascii_only(item) for item in value] if isinstance(value, list) else value
