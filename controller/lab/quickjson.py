"""JSON for stand-ins: the C halves of Python's own json, without its Python ones, whose imports (re, enum, functools) cost more
than all the rest of a stand-in's life. Gives and takes what json.loads and json.dumps do; a test compares them.
"""

from __future__ import annotations

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

_BLANK = " \t\n\r"


class _Rules:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}


_rules: Any = _Rules()
_scan = make_scanner(_rules)


def loads(said: str | bytes) -> Any:
    """Raises ValueError for anything that is not one JSON value."""
    text = said if isinstance(said, str) else said.decode()
    try:
        value, end = _scan(text, len(text) - len(text.lstrip(_BLANK)))
    except StopIteration as error:
        raise ValueError(f"no JSON value at {error.value}") from None
    if text[end:].strip(_BLANK):
        raise ValueError(f"more than one JSON value, at {end}")
    return value


def load(file: IO[str]) -> Any:
    return loads(file.read())


def dumps(value: Any, *, sort_keys: bool = False, ensure_ascii: bool = True) -> str:
    string = encode_basestring_ascii if ensure_ascii else encode_basestring
    encode = make_encoder(None, _refuse, string, None, ": ", ", ", sort_keys, False, True)
    return "".join(encode(value, 0))


def dump(value: Any, file: IO[str]) -> None:
    file.write(dumps(value))


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is no JSON")
