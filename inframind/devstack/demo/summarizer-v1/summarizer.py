"""Extractive summaries: the sentences that best stand for a whole text, by TextRank."""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

DAMPING = 0.85
ROUNDS = 40
MAX_RANKED_SENTENCES = 200
SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|\n{2,}|(?<=[。！？])")
WORD = re.compile(r"\w+")
ABBREVIATION = re.compile(
    r"(?:^|\W)(?:[A-Z]|e\.g|i\.e|Mr|Mrs|Ms|Dr|Prof|St|vs|etc|No|approx|z\.B|Nr|bzw)\.$"
)
STOP_WORDS = frozenset(
    WORD.findall("""
        a about after all also an and any are as at be been but by can could did do does for from
        had has have he her his how i if in into is it its just may more most no not of on one only
        or other our out over she so some such than that the their them then there these they this
        to up was we were what when which who will with would you your
    """)
)


class Summarizer:
    """Ranks the sentences of a document against each other and keeps the best, in their order."""

    def __init__(self, package: Path) -> None:
        """Takes the package's folder, as every model does; this one needs no file from it."""

    def predict(self, document: dict[str, Any]) -> dict[str, Any]:
        """Summarise `text` in at most `sentences` of its own sentences (default 3)."""
        text: str = document["text"]
        sentences = split_sentences(text)
        kept = best(sentences, int(document.get("sentences", 3)))
        summary = " ".join(kept)
        return {
            "summary": summary,
            "sentences": kept,
            "compression": round(min(1.0, len(summary) / len(text)), 4),
        }


def split_sentences(text: str) -> list[str]:
    """Cut text at sentence ends and blank lines, but not after common abbreviations."""
    sentences: list[str] = []
    start = 0
    for end in SENTENCE_END.finditer(text):
        if not ABBREVIATION.search(text[max(start, end.start() - 12) : end.start()]):
            sentences.append(text[start : end.end()])
            start = end.end()
    sentences.append(text[start:])
    stripped = (" ".join(sentence.split()) for sentence in sentences)
    return [sentence for sentence in stripped if sentence]


def best(sentences: list[str], count: int) -> list[str]:
    """Return the `count` highest-ranked sentences in the order of the text."""
    ranks = text_rank(sentences[:MAX_RANKED_SENTENCES])
    order = sorted(range(len(ranks)), key=lambda i: (-round(ranks[i], 9), i))
    return [sentences[i] for i in sorted(order[:count])]


def text_rank(sentences: list[str]) -> list[float]:
    """Score sentences by a random walk over their similarities that restarts near the top.

    The restart prefers early sentences, because writers put the point first.
    """
    words = [content_words(sentence) for sentence in sentences]
    links = [[similarity(a, b) if a is not b else 0.0 for b in words] for a in words]
    strengths = [sum(row) for row in links]
    leads = [1 / math.sqrt(1 + i) for i in range(len(sentences))]
    restart = [lead / sum(leads) for lead in leads]
    ranks = restart
    for _ in range(ROUNDS):
        flow = [
            rank / strength if strength else 0.0
            for rank, strength in zip(ranks, strengths, strict=True)
        ]
        ranks = [
            (1 - DAMPING) * start + DAMPING * sum(map(float.__mul__, row, flow))
            for start, row in zip(restart, links, strict=True)
        ]
    return ranks


def content_words(sentence: str) -> Counter[str]:
    """Count the words of a sentence that carry meaning."""
    words = (word.casefold() for word in WORD.findall(sentence))
    return Counter(word for word in words if word not in STOP_WORDS)


def similarity(a: Counter[str], b: Counter[str]) -> float:
    """Return the cosine of two word counts, from 0 to 1."""
    if not a or not b:
        return 0.0
    shared = sum(a[word] * b[word] for word in a.keys() & b.keys())
    return shared / math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
