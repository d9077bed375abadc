"""YAML text as plain values: loaded safely, of bounded size, no key given twice."""

import itertools
from collections import Counter
from typing import Any

import yaml

from sweep.errors import ConfigurationError

MOST_VALUES = 100_000  # in one file, its aliases written out
DEEPEST = 100  # sections inside sections


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice instead of keeping the last, and endless nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise yaml.MarkedYAMLError(
            problem=f"key {repeated[0]!r} is given twice", problem_mark=node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


def _bounded_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if abs(value) >= 2**63:
        raise yaml.MarkedYAMLError(problem="an integer is too large", problem_mark=node.start_mark)
    return value


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)
_Loader.add_constructor("tag:yaml.org,2002:int", _bounded_integer)


def parse_yaml(text: str, *, origin: str) -> Any:
    """Return the value that `text` stands for. Raises ConfigurationError naming `origin`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _count_values(node, counts={})
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, TypeError, ValueError, KeyError, AttributeError) as error:
        # PyYAML raises the last three for a value that does not fit its tag, such as `!!bool x`
        raise ConfigurationError(f"{origin}: not valid YAML: {error}") from error


def _count_values(node: yaml.Node | None, *, counts: dict[int, int]) -> int:
    """Return how many values a node stands for once its aliases are written out; refuse more than MOST_VALUES.

    Nine aliases of nine aliases, ten deep, are a page of text and 3 billion values.
    """
    if node is None or id(node) in counts:
        return counts.get(id(node), 0)
    counts[id(node)] = MOST_VALUES  # until it is known: an alias inside its own anchor is without end
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = itertools.chain.from_iterable(inner) if isinstance(node, yaml.MappingNode) else inner
    counts[id(node)] = 1 + sum(_count_values(part, counts=counts) for part in parts)
    if counts[id(node)] > MOST_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"it stands for more than {MOST_VALUES:,} values", problem_mark=node.start_mark
        )
    return counts[id(node)]
