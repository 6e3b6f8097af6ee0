"""What the documents promise exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inframind.lib.access import as_markdown
from marketplace.catalog.manifest import manifest_json_schema

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_every_field_of_the_manifest_is_documented() -> None:
    text = (ROOT / "docs" / "publishing.md").read_text()
    fields = set(manifest_json_schema()["properties"]) - {"hooks", "port", "protocol"}
    assert {field for field in fields if not re.search(rf"\b{field}\b", text)} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [each for each in targets if not (document.parent / each).exists()] == []


def test_every_management_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    packages = [ROOT / name for name in ("inframind", "billing", "marketplace", "curation")]
    commands = {
        path.stem
        for package in packages
        for path in package.rglob("management/commands/*.py")
        if not path.stem.startswith("_")
    }
    assert {name for name in commands if f"`{name}`" not in readme} == set()


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"\bmake ([a-z]+)\b", document.read_text())
    }
    assert named - targets - {"them", "the"} == set()


def test_the_table_of_authorisation_is_the_one_in_the_code() -> None:
    assert as_markdown() in (ROOT / "docs" / "authorisation.md").read_text()
