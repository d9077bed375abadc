"""The configuration loader: YAML as text, as structure and as overrides."""

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from sweep.config.study import StudyConfig, load_study, validate_study
from tests.fuzz.errors import own_errors
from tests.fuzz.values import NESTING, ODD_TEXTS, mutations
from tests.fuzz.values import VALUES as ANY_VALUES

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
CONFIG_TEXTS = [path.read_text() for path in CONFIGS]
LAUGHS = "\n".join(
    [
        "a: &a [x, x, x, x, x, x, x, x, x]",
        *(
            f"{b}: &{b} [*{a}" + f", *{a}" * 8 + "]"
            for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
        ),
    ]
)
SNIPPETS: tuple[str, ...] = (
    LAUGHS,
    LAUGHS + "\nstudy: *m",
    LAUGHS + "\nsearch: {seed: *m}",
    LAUGHS + "\nsearch: {strategy: *m, *m : 1}",
    "[" + LAUGHS + "]",
    "a: &a [*a]",
    "study: &a [*a]",
    "a: &a {b: *a}",
    "? *m\n: 1",
    "<<: 1",
    "<<: [{study: x}, {study: y}]",
    "<<: &a {<<: *a}",
    "? [a]\n: b",
    "? {a: b}\n: c",
    "1: 2",
    "null: 3",
    "~: 4",
    ".nan: 1",
    "max_length: " + "9" * 5000,
    "max_length: 0x" + "f" * 9000,
    "max_length: 1" + "0" * 400,
    "max_length: 1e400",
    "max_length: 190:20:30",
    "max_length: 2001-99-99",
    "study: 2001-12-14t21:59:43.10-05:00",
    "phase_b: {lr: .nan, steps: .inf}",
    "search: {seed: [1" + "0" * 400 + "]}",
    "search: {lr: [{}]}",
    "search: {lr: [[1e-4]]}",
    "search: {steps: !!set {1, 2}}",
    "search: {mix: !!set {0.1}}",
    "search: {seeds: {looks: [3, 5]}}",
    "search: {seeds: {looks: [3, 10000000000]}}",
    "search: {seeds: {looks: !!set {3, 5}}}",
    "search: {seeds: {3: looks}}",
    "search: {looks: [3], seed: [0, 1, 2]}",
    "inference: {primary: retention, smallest_effect: 1e-300, level: 0.999999}",
    "inference: {smallest_effect: .nan}",
    "gate: true",
    "search: {gradient_clipping: [null, 1, 1.0, true]}",
    "model: !!python/object/apply:os.system [true]",
    "model: !!binary aGVsbG8=",
    "model: !!binary x",
    "model: !!omap [a: b]",
    "model: !!int x",
    "model: !!float x",
    "model: !!bool x",
    "model: !!timestamp x",
    "model: !unknown x",
    "%YAML 9.9\n---\nstudy: a",
    "--- a\n--- b",
    'study: "\\ud800"',
    'storage: "\\0"',
    'storage: "a\\ud800"',
    "storage: ~nobody-is-called-this/x",
    "storage: {}",
    "phase_a: {cache: ~nobody-is-called-this, adapter: ~nobody-is-called-this}",
    "task_a: {path: ~nobody-is-called-this}",
    "task_a: {path: '" + "a" * 5000 + "'}",
    "task_a: {name: x, path: /, prompt: '{a.b[c]!r:>{d}}', completion: '{'}",
    "task_a: {name: x, path: /, prompt: '{0}{1}', completion: '{}'}",
    "[" * 3000,
    "{" * 3000,
    "- " * 3000,
    "? " * 3000,
    "a: " * 3000,
    "!" * 3000,
    "&" * 3000,
    "[" * NESTING,
    "|" + " " * 3000,
    "\t- x",
    "\ufeff",
    "\0",
    "\x85\u2028",
)

_CUT_AND_PASTE = st.tuples(
    st.sampled_from(CONFIG_TEXTS),
    st.integers(0, 1200),
    st.integers(0, 40),
    st.sampled_from(SNIPPETS + ODD_TEXTS),
).map(lambda cut: cut[0][: cut[1]] + cut[3] + cut[0][cut[1] + cut[2] :])
_APPENDED = st.tuples(st.sampled_from(("", "study: a\n", *CONFIG_TEXTS)), st.sampled_from(SNIPPETS)).map(
    lambda parts: "".join(parts)
)

TEXTS = st.one_of(
    st.binary(max_size=80),
    st.one_of(
        st.text(max_size=80), st.text(":-[]{}&*!|>?,#'\"%@`\n ax1.~<", max_size=60), _CUT_AND_PASTE, _APPENDED
    ).map(lambda text: text.encode("utf-8", errors="surrogatepass")),
)

_BASES = st.sampled_from([yaml.safe_load(text) for text in CONFIG_TEXTS])
VALUES = _BASES.flatmap(mutations) | st.dictionaries(
    st.sampled_from([*StudyConfig.model_fields]) | st.integers() | st.text(max_size=5), ANY_VALUES, max_size=5
)


def _paths(model: Any, prefix: str = "") -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        if hasattr(field.annotation, "model_fields"):
            names += _paths(field.annotation, f"{prefix}{name}.")
    return names


_NAMES = (
    st.sampled_from(_paths(StudyConfig))
    | st.text(max_size=8)
    | st.sampled_from(("a.b.c", "study.a", "a..b", "", "." * 3000))
)
_TEXTS = (
    st.sampled_from(ODD_TEXTS + SNIPPETS)
    | ANY_VALUES.map(lambda value: yaml.safe_dump(value, allow_unicode=False))
    | st.text(max_size=10)
)
OVERRIDES = st.lists(
    st.tuples(_NAMES, st.sampled_from(("=", "=", "=", "", "==")), _TEXTS).map("".join) | st.text(max_size=10),
    max_size=3,
)


def check_text(content: bytes) -> None:
    """The loader gives a study or a ConfigurationError for any file."""
    with tempfile.TemporaryDirectory() as folder, own_errors():
        path = Path(folder) / "study.yaml"
        path.write_bytes(content)
        check_study(load_study(path))


def check_values(values: Any) -> None:
    """The loader gives a study or a ConfigurationError for any structure."""
    check_text(yaml.dump(values, Dumper=yaml.SafeDumper).encode("utf-8"))


def check_overrides(overrides: list[str]) -> None:
    """The loader gives a study or a ConfigurationError for any overrides of a good file."""
    with own_errors():
        check_study(load_study(CONFIGS[0], tuple(overrides)))


def check_study(study: StudyConfig) -> None:
    """A study that was accepted can be recorded, and what was recorded is the same study."""
    record = study.model_dump(mode="json")
    text = json.dumps(record, allow_nan=False)
    text.encode("utf-8")
    again = validate_study(json.loads(text), origin="the record")
    assert again == study, f"{again!r} was recorded as {study!r}"
