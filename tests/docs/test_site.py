"""The documentation as a site: every field has its row, every page its place, no link leads nowhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from sweep.config.study import StudyConfig
from trainables.settings import Settings

ROOT = Path(__file__).parents[2]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def load_hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_field_with_its_default_and_a_sentence() -> None:
    page = load_hook("configuration").configuration_page()
    sections = dict(re.findall(r"^## `?([\w. ]+)`?\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))

    def check(model: type[Settings], name: str) -> None:
        for field, info in model.model_fields.items():
            row = re.search(
                rf"^\| `{field}` \| .+ \| (.+) \| .* \| (\w.*\.) \|$", sections[name], re.MULTILINE
            )
            assert row is not None, f"{name}: {field}"
            default = info.default
            if isinstance(default, Settings):
                check(type(default), field if name == "The study" else f"{name}.{field}")
            elif isinstance(default, (int, float)) and not isinstance(default, bool):
                assert row.group(1) == f"`{default}`"

    check(StudyConfig, "The study")
    assert "evaluation.watch" in sections


def test_a_field_without_a_sentence_is_an_error() -> None:
    class Mute(Settings):
        """A section."""

        said: int = 0
        """It is said."""
        unsaid: int = 0

    described = load_hook("configuration").described
    assert described(StudyConfig, "study") == "The study's name."
    with pytest.raises(KeyError, match="Mute.unsaid has no sentence"):
        described(Mute, "unsaid")


def test_every_page_has_its_place() -> None:
    named = set(re.findall(r"[\w/]+\.md", str(SITE["nav"])))
    there = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert there - named == set()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: make docs installs it")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    for page in ("index", "configuration", "api", "contributing"):
        assert (tmp_path / "site" / f"{page}.html").exists()
