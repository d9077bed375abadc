"""What the site is built with beside the pages: the configuration reference, and the contributors' page."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from configuration import configuration_page  # noqa: E402 (beside this file)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that have no file under docs/."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    files.append(File.generated(config, "configuration.md", content=configuration_page()))
    files.append(File.generated(config, "contributing.md", content=contributing))
    return files


def on_page_markdown(markdown: str, **site: Any) -> str:
    """Let links to the contributors' page, which lies at the repository's root, lead to its page here."""
    return markdown.replace("](../CONTRIBUTING.md", "](contributing.md")
