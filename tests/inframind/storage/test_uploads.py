"""Uploaded files on their way in."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile, UploadedFile
from django.test import RequestFactory

from inframind.storage.uploads import UnnamedFileUploadHandler

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_an_upload_is_read_from_its_start_and_has_no_name_on_disk(folder: Path) -> None:
    sent = SimpleUploadedFile("package.tar", CONTENT, "application/x-tar")
    request = RequestFactory().post("/", {"package": sent})
    file = request.FILES["package"]
    assert isinstance(file, UploadedFile)
    assert list(folder.iterdir()) == []
    assert (file.name, file.size, file.content_type) == (
        "package.tar",
        len(CONTENT),
        "application/x-tar",
    )
    assert (file.read(10), file.seekable()) == (CONTENT[:10], True)
    file.seek(0)
    assert b"".join(file.chunks()) == CONTENT
    file.close()
    assert list(folder.iterdir()) == []


def test_what_came_of_an_interrupted_upload_is_closed() -> None:
    handler = UnnamedFileUploadHandler()
    handler.upload_interrupted()
    handler.new_file("package", "package.tar", "application/x-tar", None)
    handler.receive_data_chunk(CONTENT, 0)
    handler.upload_interrupted()
    with pytest.raises(ValueError, match="closed"):
        handler.receive_data_chunk(CONTENT, len(CONTENT))
