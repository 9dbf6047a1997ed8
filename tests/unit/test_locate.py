"""Where in a TOML text a key stands."""

from __future__ import annotations

import tomllib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.config.locate import Index, locate

TEXT = '''\
# [not.here]
top = 1
"quoted key" = """
[nor.here]
x = 1"""
[a.b]   # a comment with = and ]
c.d = { e = 1, "f" = [1, 2] }
list = [
  "one # no comment",
  { g = 2 },
]
[[rules]]
name = 'x'
[[rules]]
name = "y"
[rules.sub]
z = 1
'''


def test_every_key_has_its_line() -> None:
    """Headers, dotted keys, inline tables, arrays over several lines, arrays of tables; not strings, not comments."""
    index = Index(TEXT)
    lines = {
        ("top",): 2,
        ("quoted key",): 3,
        ("a", "b"): 6,
        ("a", "b", "c", "d", "e"): 7,
        ("a", "b", "c", "d", "f", 1): 7,
        ("a", "b", "list"): 8,
        ("a", "b", "list", 0): 9,
        ("a", "b", "list", 1, "g"): 10,
        ("rules", 0, "name"): 13,
        ("rules", 1): 14,
        ("rules", 1, "name"): 15,
        ("rules", 1, "sub", "z"): 17,
    }
    assert {keys: index.line(keys) for keys in lines} == lines
    assert index.line(("a", "b", "nothing", "there")) == 6
    assert locate(TEXT, ("nothing",)) == 1


keys = st.text(alphabet="ab.\"' -é", max_size=3)
values = st.recursive(
    st.integers() | st.booleans() | st.text(alphabet="a\"'#[]{}=,\\\n", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{msgspec.json.encode(k).decode()} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(_toml(item) for item in value) + "\n]"
    return msgspec.json.encode(value).decode()


@given(st.dictionaries(keys, values, min_size=1, max_size=5))
def test_each_key_of_any_document_is_found(document: dict[str, object]) -> None:
    """Every key of a top-level pair is found at the line at which it was written."""
    text, expected = "", {}
    for key, value in document.items():
        expected[key] = text.count("\n") + 1
        text += f"{msgspec.json.encode(key).decode()} = {_toml(value)}\n"
    assert tomllib.loads(text) == document
    index = Index(text)
    assert {key: index.line((key,)) for key in document} == expected
