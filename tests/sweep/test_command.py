"""The one command: its subcommands, its version, and completion as shells ask for it."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.cli import main as analysis
from sweep.cli import cli
from sweep.command import COMMANDS

ROOT = Path(__file__).parents[2]
ASKED = "forgetting-sweep re"
# How each shell asks: the words so far, and which is being completed.
SHELLS = {
    "bash": {"COMP_WORDS": ASKED, "COMP_CWORD": "1"},
    "zsh": {"COMP_WORDS": ASKED, "COMP_CWORD": "1"},
    "fish": {"COMP_WORDS": ASKED, "COMP_CWORD": "re"},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A script as pip writes it of the project's entry point, under its name."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert list(scripts) == ["forgetting-sweep"]
    module, _, function = scripts["forgetting-sweep"].partition(":")
    path = tmp_path_factory.mktemp("bin") / "forgetting-sweep"
    path.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
    path.chmod(0o755)
    return path


def call(command: list[str | Path], **variables: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_has_every_command_of_both_packages() -> None:
    shown = CliRunner().invoke(COMMANDS, ["--help"]).output
    names = {*cli.commands, *analysis.commands}
    assert {"run", "report", "plot"} <= names
    assert [name for name in names if f"\n  {name} " not in shown] == []


def test_no_command_of_analysis_hides_one_of_sweeps() -> None:
    assert {*cli.commands} & {*analysis.commands} == set()


def test_plot_and_report_are_there_under_every_name_without_torch(installed: Path, tmp_path: Path) -> None:
    history = tmp_path / "history.json"
    history.write_text('{"steps": [0, 1, 2], "math_loss": [1.0, 0.9, 0.8]}')
    code = (
        "import sys; from sweep.command import COMMANDS\n"
        f"COMMANDS(['plot', {str(history)!r}, '-o', {str(tmp_path / 'out.svg')!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    )
    assert call([sys.executable, "-c", code]).splitlines()[-1] == "[]"
    assert (tmp_path / "out.svg").exists()
    assert "Usage: forgetting-sweep report" in call([installed, "report", "--help"])
    assert "Usage: python -m sweep report" in call([sys.executable, "-m", "sweep", "report", "--help"])
    assert "Usage: python -m analysis report" in call([sys.executable, "-m", "analysis", "report", "--help"])


def test_the_version_is_the_packages(installed: Path) -> None:
    assert call([installed, "--version"]).strip().endswith(version("forgetting-sweep"))


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_offered_the_commands_and_can_read_what_asks_for_them(
    shell: str, installed: Path, tmp_path: Path
) -> None:
    offered = call([installed], _FORGETTING_SWEEP_COMPLETE=f"{shell}_complete", **SHELLS[shell])
    assert {"report", "resume"} <= {part for line in offered.split() for part in line.split(",")}
    source = tmp_path / f"complete.{shell}"
    source.write_text(call([installed], _FORGETTING_SWEEP_COMPLETE=f"{shell}_source"))
    assert "_FORGETTING_SWEEP_COMPLETE" in source.read_text()
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed: its script was not read")
    call([program, "-n", source])
