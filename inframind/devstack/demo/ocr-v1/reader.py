"""Reads the text in a picture with RapidOCR: find the lines, turn them upright, read them."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rapidocr_onnxruntime import RapidOCR

MAX_PIXELS = 4_000_000
MIN_SIDE = 64
MAX_RATIO = 8


class Reader:
    """Finds lines of printed Latin and Chinese text and where they stand."""

    def __init__(self, package: Path) -> None:
        self.engine = RapidOCR(
            det_model_path=str(package / "detection.onnx"),
            cls_model_path=str(package / "direction.onnx"),
            rec_model_path=str(package / "recognition.onnx"),
            det_limit_type="max",
            intra_op_num_threads=2,
        )

    def predict(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the lines of text in `image` with confidence and box, from top to bottom."""
        picture = decode(document["image"])
        if picture is None:
            return {"readable": False, "text": "", "lines": []}
        found, _ = self.engine(picture)
        lines = [
            {
                "text": text,
                "confidence": round(float(confidence), 4),
                "box": [[round(float(x)), round(float(y))] for x, y in corners],
            }
            for corners, text, confidence in found or []
        ]
        return {"readable": True, "text": "\n".join(line["text"] for line in lines), "lines": lines}


def decode(image: str) -> NDArray[np.uint8] | None:
    """Return a picture as rows of blue, green, red; None when it is no picture or too large.

    It lies on white paper that is never tiny nor a thin strip, which RapidOCR would enlarge
    without bound.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(image)), formats=["PNG", "JPEG"]) as file:
            if file.width * file.height > MAX_PIXELS:
                return None
            upright = ImageOps.exif_transpose(file).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    shortest = max(MIN_SIDE, max(upright.size) // MAX_RATIO)
    width, height = (max(side, shortest) for side in upright.size)
    paper = Image.new("RGBA", (width, height), "white")
    paper.alpha_composite(upright)
    return np.ascontiguousarray(np.asarray(paper.convert("RGB"))[:, :, ::-1])
