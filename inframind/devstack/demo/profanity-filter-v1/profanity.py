"""Tells profane text from clean text with a bag of words and five calibrated linear machines."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\b\w\w+\b")
THRESHOLD = 0.5


class ProfanityFilter:
    """Scores a text as alt-profanity-check does, and names the words that are profane alone."""

    def __init__(self, package: Path) -> None:
        words = (package / "vocabulary.txt").read_text("utf-8").split("\n")
        self.index = {word: i for i, word in enumerate(words)}
        with np.load(package / "weights.npz", allow_pickle=False) as weights:
            self.idf = weights["idf"]
            self.coefficients = weights["coefficients"]
            self.intercepts = weights["intercepts"]
            self.slopes = weights["slopes"]
            self.offsets = weights["offsets"]

    def predict(self, document: dict[str, Any]) -> dict[str, Any]:
        """Answer whether `text` is profane, how probably, and which words are so by themselves."""
        words = WORD.findall(document["text"].lower())
        probability = self.probability(words)
        known = dict.fromkeys(word for word in words if word in self.index)
        return {
            "profane": probability > THRESHOLD,
            "probability": round(probability, 6),
            "flagged": [word for word in known if self.probability([word]) > THRESHOLD],
        }

    def probability(self, words: list[str]) -> float:
        """Return the mean probability of the five machines that the words are profane."""
        known = [self.index[word] for word in words if word in self.index]
        columns, counts = np.unique(np.array(known, np.int64), return_counts=True)
        weights: NDArray[np.float64] = counts * self.idf[columns]
        if known:
            weights /= np.linalg.norm(weights)
        decisions = self.coefficients[:, columns] @ weights + self.intercepts
        return float(np.mean(1 / (1 + np.exp(self.slopes * decisions + self.offsets))))
