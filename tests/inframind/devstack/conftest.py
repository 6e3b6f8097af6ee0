"""Folders for servers that root starts as other users."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the other users can reach whom servers of root run as."""
    folder = Path(tempfile.mkdtemp(dir=os.environ[servers.FOLDER_VARIABLE]))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
