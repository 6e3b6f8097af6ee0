"""What is committed is what the sources give."""

from __future__ import annotations

from pathlib import Path

from inframind.chain import artefacts
from inframind.devstack.chaintools import CONTRACTS, compile_contracts, ensure_chain_tools
from inframind.devstack.processes import Children


def test_the_committed_artefacts_are_those_of_the_sources(tmp_path: Path) -> None:
    children = Children(tmp_path / "log")
    try:
        tools = ensure_chain_tools(children, say=print)
        compile_contracts(children, tools, tmp_path / "artefacts")
    finally:
        children.close()

    fresh = {each.name: each.read_text() for each in (tmp_path / "artefacts").iterdir()}
    committed = {each.name: each.read_text() for each in artefacts.FOLDER.iterdir()}

    assert sorted(committed) == ["IFM.json", "Settlement.json"]
    assert fresh == committed, "Run: make contracts"


def test_the_contract_fits_into_what_a_chain_accepts() -> None:
    sizes = {
        name: len(bytes.fromhex(artefacts.artefact(name)["deployed_bytecode"][2:]))
        for name in ("IFM", "Settlement")
    }
    assert all(size <= 24_576 for size in sizes.values()), sizes


def test_the_lock_file_names_no_registry() -> None:
    lock = (CONTRACTS / "package-lock.json").read_text()
    assert '"resolved"' not in lock
