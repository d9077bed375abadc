"""YAML 1.2 text as plain values, and back: loaded safely, of bounded size, no key given twice.

Plain words mean what the core schema of YAML 1.2 says: `off`, `yes`, `1:30` and `2024-01-31` are text, `010`
is ten, `0o10` is eight, `1e-4` is a number. https://yaml.org/spec/1.2.2/#103-core-schema
"""

import io
import itertools
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode
from ruamel.yaml.resolver import BaseResolver

from sweep.config.errors import ConfigurationError

MOST_VALUES = 100_000  # in one file, its aliases written out
DEEPEST = 100  # sections inside sections
TAG = "tag:yaml.org,2002:"
DIGITS = "0123456789"
# The core schema's words by what they stand for, with the characters that one can begin with.
CORE_SCHEMA = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+" + DIGITS)),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+." + DIGITS),
    ),
    "merge": (r"<<", ["<"]),  # no part of the core schema, and in use everywhere
}


class _Resolver(BaseResolver):
    """Tells what a plain word is by the core schema alone, whatever version a file claims."""

    def __init__(self, version: Any = None, loader: Any = None) -> None:
        super().__init__(loader)
        self._loader_version = version

    @property
    def processing_version(self) -> tuple[int, int]:
        return 1, 2


for _kind, (_pattern, _first) in CORE_SCHEMA.items():
    _Resolver.add_implicit_resolver_base(TAG + _kind, re.compile(f"(?:{_pattern})\\Z"), _first)


class _CautiousResolver(_Resolver):
    """Takes a word for what YAML 1.1 would, too: text that older readers would misread is written in
    quotes.
    """


for _pattern in (
    r"(?i:y|yes|n|no|on|off)",
    r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])*(\.[0-9_]*)?",
    r"[0-9]{4}-[0-9]{1,2}-.*",
):
    _CautiousResolver.add_implicit_resolver_base(TAG + "old", re.compile(f"(?:{_pattern})\\Z"), None)


class _Composer(Composer):
    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False  # an anchor may be set anew


class _Constructor(SafeConstructor):
    def construct_bounded_int(self, node: ScalarNode) -> int:
        value: int = self.construct_yaml_int(node)
        if abs(value) >= 2**63:
            raise MarkedYAMLError(problem="an integer is too large", problem_mark=node.start_mark)
        return value


_Constructor.add_constructor(TAG + "int", _Constructor.construct_bounded_int)


def parse_yaml(text: str, *, origin: str) -> Any:
    """Return the value that `text` stands for. Raises ConfigurationError naming `origin`."""
    try:
        yaml = _yaml()
        node = yaml.compose(text)
        _count_values(node, counts={})
        return None if node is None else yaml.constructor.construct_document(node)
    except DuplicateKeyError as error:
        key = re.match(r'found duplicate (?:merge )?key "(.*?)"', str(error.problem), re.DOTALL)
        named = f"key {key[1]!r:.200} is given twice" if key else error.problem
        raise _not_valid(f"{named}\n{error.problem_mark}", origin=origin) from error
    except (YAMLError, TypeError, ValueError, KeyError, AttributeError, IndexError, AssertionError) as error:
        # the last six are raised for a value that does not fit its tag, such as `!!bool x`
        raise _not_valid(str(error), origin=origin) from error


def _not_valid(reason: str, *, origin: str) -> ConfigurationError:
    reason = reason.replace('"<unicode string>", ', "")
    if reason.startswith("maximum depth"):  # ruamel.yaml goes on to name its own option
        reason = f"it is nested too deeply, more than {DEEPEST} levels"
    return ConfigurationError(f"{origin}: not valid YAML: {reason}")


def format_yaml(values: Any) -> str:
    """Return YAML that `parse_yaml` reads as `values`: text that looks like something else is quoted."""
    text = io.StringIO()
    _yaml(_CautiousResolver).dump(values, text)
    return text.getvalue()


def _yaml(resolver: type[_Resolver] = _Resolver) -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver, yaml.Composer, yaml.Constructor = resolver, _Composer, _Constructor
    yaml.max_depth = DEEPEST
    yaml.default_flow_style = False
    return yaml


def _count_values(node: Node | None, *, counts: dict[int, int]) -> int:
    """Return how many values a node stands for once its aliases are written out; refuse more than
    MOST_VALUES.

    Nine aliases of nine aliases, ten deep, are a page of text and 3 billion values.
    """
    if node is None or id(node) in counts:
        return counts.get(id(node), 0)
    counts[id(node)] = MOST_VALUES  # until it is known: an alias inside its own anchor is without end
    inner = node.value if isinstance(node, CollectionNode) else []
    if isinstance(node, MappingNode):
        for key, _ in inner:
            if isinstance(key, CollectionNode):
                raise MarkedYAMLError(problem="a key must be a plain word", problem_mark=key.start_mark)
    parts = itertools.chain.from_iterable(inner) if isinstance(node, MappingNode) else inner
    counts[id(node)] = 1 + sum(_count_values(part, counts=counts) for part in parts)
    if counts[id(node)] > MOST_VALUES:
        raise MarkedYAMLError(
            problem=f"it stands for more than {MOST_VALUES:,} values", problem_mark=node.start_mark
        )
    return counts[id(node)]
