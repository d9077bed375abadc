"""docs/statistics.md names what there is: every measure, every frame, functions that can be imported."""

import re
from functools import cached_property
from importlib import import_module

from analysis.findings.findings import Findings
from analysis.stats.measures import MEASURES
from benchmarks.error_rates import Line, table
from benchmarks.machine import RESULTS, read_result
from tests.test_structure import ROOT

PAGE = (ROOT / "docs" / "statistics.md").read_text()
IN_CODE = set(re.findall(r"`([^`]+)`", PAGE))


def test_every_measure_is_defined() -> None:
    assert set(MEASURES) <= IN_CODE


def test_every_frame_is_named() -> None:
    frames = {name for name, kind in vars(Findings).items() if isinstance(kind, (cached_property, property))}
    frames = {name for name in frames if not name.startswith("_")} - {"notes", "problems"}
    assert frames <= IN_CODE


def test_its_table_of_error_rates_is_the_one_on_record() -> None:
    record = read_result(RESULTS / "error_rates.json")
    assert table([Line(**each) for each in record["lines"]]) in PAGE


def test_every_function_and_module_it_names_is_there() -> None:
    functions = [
        name.rpartition(".") for name in IN_CODE if re.fullmatch(r"analysis(\.\w+)+\.plot_\w+", name)
    ]
    assert len(functions) == 12
    for module, _, name in functions:
        assert callable(getattr(import_module(module), name))
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE):
        assert (ROOT / path).is_file()
