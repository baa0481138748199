"""quickjson gives and takes exactly what json does."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.lab import quickjson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans(), st.booleans())
def test_it_writes_and_reads_what_json_does(value: Any, ascii_only: bool, sort: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, sort_keys=sort)
    assert quickjson.dumps(value, ensure_ascii=ascii_only, sort_keys=sort) == text
    assert quickjson.loads(f" \n{text}\t") == value
    file = io.StringIO()
    quickjson.dump(value, file)
    file.seek(0)
    assert quickjson.load(file) == value


@pytest.mark.parametrize("text", ["", " ", "{", '{"a": 1', "[1,]", "1 2", '"half', "nul", "{'a': 1}"])
def test_it_refuses_what_json_refuses(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - only that it does is compared
        json.loads(text)
    with pytest.raises(ValueError):  # noqa: PT011
        quickjson.loads(text)


def test_it_refuses_to_write_what_is_no_json() -> None:
    with pytest.raises(TypeError, match="set is no JSON"):
        quickjson.dumps({1, 2})
