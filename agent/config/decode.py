"""A table as TOML gives it -> a typed, frozen Struct, with every fault in it rather than the first."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin

import msgspec

from agent.config.schema import ProbeConfig
from agent.config.secret import Secret

T = TypeVar("T")
Keys = tuple[str | int, ...]


class Fault(str):
    """What is wrong, as a printable line `probes.disk.intervall: unknown key, …`; `keys` lead to its place."""

    __slots__ = ("keys", "text")
    keys: Keys
    text: str

    def __new__(cls, keys: Keys, text: str) -> Self:
        self = super().__new__(cls, f"{dotted(keys)}: {text}" if keys else text)
        self.keys = keys
        self.text = text
        return self


def dotted(keys: Iterable[str | int]) -> str:
    """("thresholds", 0, "metric") -> `thresholds[0].metric`; a key that is not bare is quoted as in TOML."""
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        else:
            bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
            path += ("." if path else "") + (key if bare else msgspec.json.encode(key).decode())
    return path


def decode(kind: type[T], table: object, path: Keys | str = ()) -> tuple[T | None, list[Fault]]:
    """The Struct that `table` describes, and all faults in it, each under `path` ("probes.disk" or keys).

    Faulty keys are left at their defaults, so that a value comes back to look for more faults in; it is
    None only when a key that has no default is missing or wrong. Use it only when there are no faults.
    """
    decoder = _Decoder()
    keys: Keys = tuple(path.split(".")) if isinstance(path, str) else path
    value = decoder.struct(kind, table, keys)
    return (None if value is _BAD else value), decoder.faults


_BAD: Any = object()
_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a table",
    list: "a list",
}


class _Decoder:
    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, keys: Keys, text: str) -> Any:
        self.faults.append(Fault(keys, text))
        return _BAD

    def struct(self, kind: type[Any], table: object, keys: Keys) -> Any:
        if not isinstance(table, dict):
            return self.fault(keys, f"expected a table, not {_kind(table)}")
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for hidden in ("options",) if kind is ProbeConfig else ("sources",):
            fields.pop(hidden, None)
        values: dict[str, Any] = {}
        rest = {key: value for key, value in table.items() if key not in fields}
        if kind is ProbeConfig:
            values["options"] = rest
        else:
            for key in rest:
                self.fault((*keys, key), "unknown key" + _meant(key, fields))
        complete = True
        for key, field in fields.items():
            if key in table:
                value = self.value(field.type, table[key], (*keys, key))
            elif field.required:
                value = self.fault((*keys, key), f"missing; expected {_expected(field.type)}")
            else:
                continue
            if value is not _BAD:
                values[field.name] = value
            complete = complete and (value is not _BAD or not field.required)
        return self._build(kind, values, keys) if complete else _BAD

    def _build(self, kind: type[Any], values: dict[str, Any], keys: Keys) -> Any:
        try:
            return kind(**values)
        except (ValueError, TypeError) as error:  # a check of the type's own, in its __post_init__
            return self.fault(keys, str(error))

    def value(self, kind: Any, value: Any, keys: Keys) -> Any:
        kind = _present(kind)
        origin, arguments = get_origin(kind), get_args(kind)
        if kind is Any:
            return value
        if isinstance(kind, type) and origin is None:
            return self._plain(kind, value, keys)
        if origin is Literal:
            return value if value in arguments else self.fault(keys, f"expected {_expected(kind)}, not {_show(value)}")
        if origin in (tuple, list, frozenset, set) and (len(arguments) == 1 or arguments[-1] is Ellipsis):
            return self._sequence(origin, arguments[0], value, keys)
        if origin is dict:
            return self._mapping(arguments[1], value, keys)
        return self._convert(kind, value, keys)

    def _plain(self, kind: type[Any], value: Any, keys: Keys) -> Any:
        if issubclass(kind, msgspec.Struct):
            return self.struct(kind, value, keys)
        if hasattr(kind, "parse"):
            return self._parse(kind, value, keys)
        if kind is Path:
            return Path(value) if isinstance(value, str) and value else self._wrong(kind, value, keys)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            number = self._parse(_Number, value, keys)
            return number if number is _BAD else float(number)
        if kind in (bool, int, str):
            return value if type(value) is kind else self._wrong(kind, value, keys)
        return self._convert(kind, value, keys)

    def _parse(self, kind: Any, value: Any, keys: Keys) -> Any:
        try:
            parsed = kind.parse(value)
        except (ValueError, OverflowError, OSError) as error:
            text = str(error) if isinstance(error, ValueError) else f"expected {kind.expected}"
            told = _kind(value) if kind is Secret else _show(value)  # it may be the secret itself
            shown = "" if isinstance(value, dict) or not text.startswith("expected") else f", not {told}"
            return self.fault(keys, text + shown)
        if isinstance(parsed, float) and not math.isfinite(parsed) and not getattr(parsed, "grade", ""):
            return self.fault(keys, f"expected {kind.expected}, not {_show(value)}")
        return parsed

    def _wrong(self, kind: Any, value: Any, keys: Keys) -> Any:
        return self.fault(keys, f"expected {_expected(kind)}, not {_show(value)}")

    def _sequence(self, origin: Any, kind: Any, value: Any, keys: Keys) -> Any:
        if not isinstance(value, list):
            return self.fault(keys, f"expected a list, not {_show(value)}")
        items = [self.value(kind, item, (*keys, index)) for index, item in enumerate(value)]
        return origin(item for item in items if item is not _BAD)

    def _mapping(self, kind: Any, value: Any, keys: Keys) -> Any:
        if not isinstance(value, dict):
            return self.fault(keys, f"expected a table, not {_show(value)}")
        items = {key: self.value(kind, item, (*keys, key)) for key, item in value.items()}
        return {key: item for key, item in items.items() if item is not _BAD}

    def _convert(self, kind: Any, value: Any, keys: Keys) -> Any:
        try:
            return msgspec.convert(value, kind)
        except (msgspec.ValidationError, OverflowError) as error:
            text = str(error)
            return self.fault(keys, text[:1].lower() + text[1:])


class _Number(float):
    expected = "a number"

    @classmethod
    def parse(cls, value: float) -> _Number:
        return cls(value)


def _present(kind: Any) -> Any:
    """`X | None` -> X: TOML has no null."""
    if get_origin(kind) in (Union, UnionType):
        kinds = [part for part in get_args(kind) if part is not NoneType]
        return kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]  # noqa: UP007 - made at run time
    return kind


def _expected(kind: Any) -> str:
    kind = _present(kind)
    if get_origin(kind) is Literal:
        choices = [_show(choice) for choice in get_args(kind)]
        return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
    if kind is Path:
        return "a path"
    origin = get_origin(kind) or kind
    return str(getattr(kind, "expected", None) or _NAMES.get(origin) or _NAMES[list])


def _kind(value: object) -> str:
    return _NAMES.get(type(value), "a date or time")


def _show(value: object) -> str:
    """A value as it stands in the file, if it is short and simple; else what kind of thing it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and not (isinstance(value, int) and value.bit_length() > 200):
        return str(value)
    if isinstance(value, str) and len(value) <= 60:
        return msgspec.json.encode(value).decode()
    return _kind(value)


def _meant(key: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - only when there is a fault

    close = difflib.get_close_matches(key[:100], list(known), n=1)
    if close:
        return f', did you mean "{close[0]}"?'
    return f"; known here: {', '.join(sorted(known))}"
