"""Embeds texts as the mean of their tokens' vectors: no network, so fast on any processor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


class TokenEmbedder:
    """Gives each text a unit vector of 256 numbers; close meanings have a high dot product."""

    def __init__(self, package: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.vectors = read_matrix(package / "weights.safetensors")

    def predict(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the embeddings of `texts` and the cosine similarity of every two of them."""
        embeddings = np.stack([self.embed(text) for text in document["texts"]])
        similarities = np.clip(embeddings @ embeddings.T, -1, 1)
        return {
            "similarities": similarities.round(6).tolist(),
            "dimensions": embeddings.shape[1],
            "embeddings": embeddings.round(6).tolist(),
        }

    def embed(self, text: str) -> NDArray[np.float64]:
        """Return the unit vector of one text; of a text without tokens, the zero vector."""
        tokens = self.tokenizer.encode(text, add_special_tokens=False).ids
        total: NDArray[np.float64] = self.vectors[tokens].sum(axis=0, dtype=np.float64)
        length = np.linalg.norm(total)
        return total / length if length else total


def read_matrix(path: Path) -> NDArray[np.float16]:
    """Read the one matrix of a safetensors file: a length, a JSON header, then the numbers."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    (matrix,) = header.values()
    begin, end = matrix["data_offsets"]
    return np.frombuffer(data[start + begin : start + end], "<f2").reshape(matrix["shape"])
