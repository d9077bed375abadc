"""Strategies that every target shares: odd values, odd bytes, and mutations of a good value."""

import copy
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "",
    " ",
    "\0",
    "\ud800",
    "\udcff",
    "\u202e\u2066",
    "\x1b[31m",
    "a\nb",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "~nobody-is-called-this/x",
    "~",
    "nan",
    "null",
    "1e400",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "|`$\\input{/etc/passwd}$`|",
    "{column.__class__}",
    "{",
    "a" * 5000,
    "\ufb00\u0301",
)
ODD_NUMBERS = (
    -1,
    2**31,
    2**53 + 1,
    2**63,
    -(2**64),
    10**400,
    10**4000,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    float("-inf"),
)
NESTING = 10_000


def nest(depth: int) -> Any:
    """Return an empty list inside `depth` lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.sampled_from(ODD_NUMBERS),
    st.floats(),
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=12),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(ODD_TEXTS) | st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
) | st.builds(nest, st.sampled_from((50, 300)))

RAW_JSON = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", errors="surrogatepass")),
    st.sampled_from(
        (
            b"",
            b"\xff\xfe{}",
            b"[" * NESTING,
            b'{"a":' * NESTING,
            b"1" * 5000,
            b"NaN",
            b"1e400",
            b'{"schema": 1, "cells": [',
            b'{"a": 1}{"b": 2}',
            b"\x00" * 16,
            b'"\\ud800"',
        )
    ),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key or index) of a nested value."""
    found: list[tuple[Any, Any]] = []
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        found += places(value[key])
    return found


@st.composite
def mutations(draw: st.DrawFn, value: Any, *, most: int = 3) -> Any:
    """Draw a copy of `value` in which one to `most` places were dropped, doubled, renamed or retyped."""
    mutated = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        choices = places(mutated)
        if not choices:
            return draw(VALUES)
        container, key = choices[draw(st.integers(0, len(choices) - 1))]
        kind = draw(st.sampled_from(("drop", "double", "rename", "retype", "retype", "wrap")))
        if kind == "drop":
            del container[key]
        elif kind == "double" and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        elif kind == "rename" and isinstance(container, dict):
            container[draw(st.sampled_from(ODD_TEXTS) | st.text(max_size=6))] = container.pop(key)
        elif kind == "wrap":
            container[key] = [container[key]]
        else:
            container[key] = draw(VALUES)
    return mutated
