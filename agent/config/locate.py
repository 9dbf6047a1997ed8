"""Where in a TOML text a key stands: tomllib does not tell, and people need the line. Used only for faults."""

from __future__ import annotations

import re

from agent.config.decode import Keys

_BLANK = re.compile(r"[ \t\r\n]*(?:#[^\n]*[ \t\r\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)
_SCALAR = re.compile(r"[^,\]}#\n]*")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def locate(text: str, keys: Keys) -> int:
    """The line (from 1) of the innermost of `keys` that is there; 1 if none is. `text` is valid TOML."""
    return Index(text).line(keys)


class Index:
    """All key paths of one TOML text with their lines."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._lines: dict[Keys, int] = {}
        self._counts: dict[Keys, int] = {}
        try:
            self._document()
        except IndexError:  # the text is not quite TOML: what was seen so far is still of use
            return

    def line(self, keys: Keys) -> int:
        while keys and keys not in self._lines:
            keys = keys[:-1]
        return self._lines.get(keys, 1)

    def _note(self, keys: Keys, at: int) -> None:
        line = self._text.count("\n", 0, at) + 1
        for end in range(1, len(keys) + 1):
            self._lines.setdefault(keys[:end], line)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise IndexError
        self._at = match.end()
        return match[0]

    def _document(self) -> None:
        table: Keys = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> Keys:
        start = self._at
        array = self._text.startswith("[[", start)
        self._at += 2 if array else 1
        table = self._entered(self._key())
        self._at += 2 if array else 1
        if array:
            index = self._counts.get(table, 0)
            self._counts[table] = index + 1
            table = (*table, index)
        self._note(table, start)
        return table

    def _entered(self, keys: Keys) -> Keys:
        """The path with the index of the latest entry after each array of tables but the last."""
        path: Keys = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            if position < len(keys) - 1 and path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _key(self) -> Keys:
        parts: list[str | int] = []
        while True:
            self._skip(_SPACE)
            parts.append(self._part())
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return tuple(parts)
            self._at += 1

    def _part(self) -> str:
        quote = self._text[self._at]
        if quote == '"':
            return _ESCAPE.sub(_unescaped, self._skip(_STRINGS[2])[1:-1])
        if quote == "'":
            return self._skip(_STRINGS[3])[1:-1]
        return self._skip(_BARE)

    def _pair(self, table: Keys) -> None:
        start = self._at
        keys = (*table, *self._key())
        self._note(keys, start)
        self._at += 1  # the equals sign
        self._value(keys)

    def _value(self, keys: Keys) -> None:
        self._skip(_BLANK)
        first = self._text[self._at]
        if first == "[":
            self._items(keys)
        elif first == "{":
            self._inline(keys)
        elif first in "\"'":
            for pattern in _STRINGS:
                if pattern.match(self._text, self._at):
                    self._skip(pattern)
                    return
            raise IndexError
        else:
            self._skip(_SCALAR)

    def _items(self, keys: Keys) -> None:
        self._at += 1
        index = 0
        while self._more("]"):
            self._note((*keys, index), self._at)
            self._value((*keys, index))
            index += 1

    def _inline(self, keys: Keys) -> None:
        self._at += 1
        while self._more("}"):
            self._pair(keys)

    def _more(self, end: str) -> bool:
        self._skip(_BLANK)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_BLANK)
        if self._text[self._at] != end:
            return True
        self._at += 1
        return False


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _ESCAPES.get(match[3], match[3])
