"""Values are changed in place; everything else in the file stays."""

from __future__ import annotations

import json

import json5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.core.config.json_edit import with_values

ARGENT = """// my gateway
{
  agents: { main: {}, /* none yet */ },
  "storage": {
    'backend': "sqlite", // for now
    // where reads go
    readFrom: 'sqlite',
    "postgres": { connectionString: "postgres://x/y" }, // ours
  },
}
"""


def test_in_place() -> None:
    changed = with_values(ARGENT, {("storage", "backend"): "dual", ("storage", "readFrom"): "postgres"})
    assert changed == ARGENT.replace('"sqlite", // for now', '"dual", // for now').replace("'sqlite'", '"postgres"')


def test_added() -> None:
    changed = with_values(ARGENT, {("storage", "writeTo"): ["sqlite", "postgres"]})
    added = '// ours\n    "writeTo": ["sqlite", "postgres"],\n'
    assert changed == ARGENT.replace("// ours\n", added)
    assert json5.loads(changed)["storage"]["writeTo"] == ["sqlite", "postgres"]


def test_a_value_that_stays_keeps_its_form() -> None:
    text = "{a: ['x', /* y */ 'z',], b: 1}"
    assert with_values(text, {("a",): ["x", "z"], ("b",): 1}) == text
    assert with_values(text, {("b",): True}) == text.replace("1", "true")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", '{\n  "storage": {\n    "backend": "dual"\n  }\n}'),
        ('{"a": 1}', '{"a": 1, "storage": {\n  "backend": "dual"\n}}'),
        ('{\n\t"a": 1 // one\n}\n', '{\n\t"a": 1, // one\n\t"storage": {\n\t  "backend": "dual"\n\t}\n}\n'),
        ('{"storage": {}}', '{"storage": {\n  "backend": "dual"\n}}'),
        ('{"storage": {"backend": 1, "backend": 2}}', '{"storage": {"backend": 1, "backend": "dual"}}'),
    ],
)
def test_shapes(text: str, expected: str) -> None:
    assert with_values(text, {("storage", "backend"): "dual"}) == expected


@pytest.mark.parametrize("text", ["", "[]", '{"storage": 1}', "{", '{"a" 1}', '{"a": [1 2]}'])
def test_what_cannot_be_changed(text: str) -> None:
    with pytest.raises(ValueError, match="no "):
        with_values(text, {("storage", "backend"): "dual"})


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.dictionaries(st.text(), _VALUES),
    st.lists(st.text(), min_size=1, max_size=3),
    _VALUES,
    st.sampled_from([None, 1, 4]),
)
def test_any(document: dict[str, object], path: list[str], value: object, indent: int | None) -> None:
    text = json.dumps(document, indent=indent)
    node: object = document
    for name in path[:-1]:
        node = node.get(name, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        with pytest.raises(ValueError, match="is no object"):
            with_values(text, {tuple(path): value})
        return
    changed = json.loads(with_values(text, {tuple(path): value}))
    there = document
    for name in path[:-1]:
        there = there.setdefault(name, {})  # type: ignore[assignment]
    there[path[-1]] = value
    assert changed == document
