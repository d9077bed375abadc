"""Every command that the pages show exists with its options; those of the README and the tutorial run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from analysis.cli import main as analysis
from sweep.command import COMMANDS
from sweep.ledger.ledger import open_existing
from trainables.ledger import schema

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]
FINISHED = ROOT / "tests" / "sweep" / "data" / "finished_study.tar.gz"
BLOCK = re.compile(r"^( *)```(?:sh|bash|console)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
OURS = {"python -m sweep": COMMANDS, "python -m analysis": analysis, "forgetting-sweep": COMMANDS}
RUN_PAGES = ("README.md", "docs/tutorial.md")
# Commands of those pages that no test runs, by how they begin or what they hold, and why.
NOT_RUN = {
    "make": "sets up an environment, trains or tests for minutes",
    "python -m sweep run": "trains; tests/sweep/test_run.py runs small studies",
    "python -m sweep resume": "trains; tests/sweep/test_run.py resumes small studies",
    "python -m analysis report": "draws every figure; tests/analysis/report does",
    "tinyllama": "needs a model from the hub",
    "smollm2_math_hotpotqa": "needs data, or a study of it",
    "--address": "needs a cluster",
    "plan configs/demo.yaml --set": "plans the demo once more",
}

LEAVES_A_STUDY = ("make demo", "python -m sweep run configs/demo.yaml")  # a finished one stands for theirs


def commands(page: str) -> Iterator[str]:
    """Yield each command of a page's shell blocks, one line each, without comments."""
    for indent, block in BLOCK.findall((ROOT / page).read_text()):
        lines = re.sub(rf"(?m)^{indent}", "", block).replace("\\\n", " ")
        for line in lines.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield re.sub(r"\s+#\s.*$", "", line).strip()


def called(line: str) -> tuple[click.Group, list[str]] | None:
    """Return the group that a line calls and its arguments, None where it calls none of ours."""
    for beginning, group in OURS.items():
        found = re.search(rf"(?:^|[\s;&|(]){re.escape(beginning)}(?=\s)", line)
        if found:
            return group, shlex.split(re.split(r"\s[|&;>]", line[found.end() :])[0], comments=True)
    return None


def check(group: click.Group, words: list[str]) -> None:
    """Raise click.UsageError where there is no such command, option, choice or argument."""
    outer = click.Context(group, info_name="it")
    _, rest, _ = group.make_parser(outer).parse_args(list(words))
    if not rest:  # --help, --version
        return
    name, command, rest = group.resolve_command(outer, rest)
    assert command is not None
    inner = click.Context(command, info_name=name, parent=outer)
    given, beyond, _ = command.make_parser(inner).parse_args(list(rest))
    if beyond:
        raise click.UsageError(f"{name} takes no {beyond}")
    for parameter in command.params:
        value = given.get(parameter.name)
        absent = not isinstance(value, (str, tuple, list)) or not value
        if isinstance(parameter, click.Argument) and parameter.required and absent:
            raise click.UsageError(f"{name} needs {parameter.name}")
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            parameter.type.convert(value, parameter, inner)


SHOWN = [(page, line) for page in PAGES for line in dict.fromkeys(commands(page))]


@pytest.mark.parametrize(
    ("page", "line"), [each for each in SHOWN if called(each[1])], ids=lambda part: str(part)[:70]
)
def test_a_command_that_a_page_shows_has_these_options(page: str, line: str) -> None:
    found = called(line)
    assert found is not None
    check(*found)


@pytest.mark.parametrize(
    "line",
    [
        "python -m sweep runn configs/demo.yaml",
        "python -m sweep run configs/demo.yaml --sett a=1",
        "python -m sweep run",
        "python -m sweep export results/demo --format pest",
        "python -m sweep status results/a results/b",
        "python -m analysis plot a.json --titel x",
        "forgetting-sweep report",
    ],
)
def test_a_command_that_was_renamed_would_be_found(line: str) -> None:
    found = called(line)
    assert found is not None
    with pytest.raises(click.UsageError):
        check(*found)


@pytest.mark.parametrize("page", PAGES)
def test_every_target_of_make_and_every_extra_that_a_page_names_exists(page: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / page).read_text()
    lines = [line for line in commands(page) if line.startswith("make ")]
    named = {shlex.split(line)[1] for line in lines} | set(re.findall(r"`make ([a-z][\w-]*)", text))
    assert named - targets == set()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    used = {each for found in re.findall(r"forgetting-sweep\[([\w,-]+)\]", text) for each in found.split(",")}
    assert used - {*extras} == set()


def runs(line: str) -> bool:
    return not any(line.startswith(each) or each in line for each in NOT_RUN)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository's after the demo: its configurations, an environment, a study."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("configs", "docs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    scripts = {
        "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
        "forgetting-sweep": f"#!{sys.executable}\nfrom sweep.command import main\nmain()\n",
    }
    for name, text in scripts.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").write_text("export ACTIVE=yes\n")
    with tarfile.open(FINISHED) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    study = folder / "unpacked" / "study"
    ledger = open_existing(str(study))
    entries = ledger.plan()
    for entry in entries:  # the demo's labels
        entry["labels"][schema.MIX] /= 2
    ledger.write(schema.PLAN_FILE, {"schema": schema.SCHEMA_VERSION, "cells": entries})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES)
def test_the_commands_of_the_readme_and_the_tutorial_run(page: str, place: Path) -> None:
    shutil.rmtree(place / "results", ignore_errors=True)
    environment = os.environ | {
        "PATH": f"{place / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    for line in commands(page):
        if line.startswith(LEAVES_A_STUDY):
            shutil.copytree(place / "unpacked" / "study", place / "results" / "demo", dirs_exist_ok=True)
        if not runs(line):
            continue
        ended = subprocess.run(
            ["bash", "-c", line], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{page}: {line}\n{ended.stdout}{ended.stderr}"


def test_no_reason_is_given_for_a_command_that_no_page_shows() -> None:
    shown = [line for page in RUN_PAGES for line in commands(page)]
    unused = [each for each in NOT_RUN if not any(each in line for line in shown)]
    assert unused == []
