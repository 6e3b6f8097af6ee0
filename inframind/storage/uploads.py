"""Uploads on their way in: in files without a name, so that a killed process leaves none behind."""

from __future__ import annotations

import tempfile
from typing import IO, Any

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler


class UnnamedFileUploadHandler(FileUploadHandler):
    """Spools every uploaded file to disk, where no path leads to it."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the request closes it

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Keeps the chunk, and gives nothing to further handlers."""
        self._spool.write(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile[bytes]:
        """The file, read from its start; it is gone once it is closed."""
        self._spool.seek(0)
        return UploadedFile(
            self._spool,
            self.file_name,
            self.content_type,
            file_size,
            self.charset,
            self.content_type_extra,
        )

    def upload_interrupted(self) -> None:
        """Forgets what came of a file whose sender went away."""
        if hasattr(self, "_spool"):
            self._spool.close()
