"""Callers who go on whatever breaks, and who know what each of their calls came to."""

from __future__ import annotations

import heapq
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Final

import httpx

from inframind.lib.canonical import digest

# Another process may hold the key of a call that was cut off; it is asked for again after so long.
AGAIN_SECONDS: Final = 1.0
KEYED, BAD, REPEATED, OLD_FIRST = 0.5, 0.03, 0.03, 0.4
# Some go away before they can have an answer.
GONE, GONE_SECONDS, PATIENT_SECONDS = 0.03, 0.02, 40.0
TEMPORARY: Final = {409, 429, 502, 503, 504}
# With so many outcomes unknown, nobody begins anything new.
UNKNOWN_AT_MOST: Final = 60


@dataclass(frozen=True)
class Wish:
    """A call that somebody wants made. ``celsius`` is no other call's, so its row tells whose;
    None asks for what breaks the input schema."""

    number: int
    wallet: str
    key: str | None
    celsius: float | None

    @property
    def document(self) -> dict[str, float | str]:
        return {"celsius": "cold" if self.celsius is None else self.celsius}

    @property
    def digest(self) -> str:
        return digest(self.document)


@dataclass(frozen=True)
class Answered:
    """A call whose caller has read a 200."""

    wish: Wish
    receipt: str
    fee: str


@dataclass
class Callers:
    """``tokens`` by wallet. Everything is decided by ``seed`` but how threads and crashes fall."""

    urls: list[str]
    tokens: dict[str, str]
    reference: str
    seed: str
    threads: int = 6
    answered: dict[int, Answered] = field(default_factory=dict)
    refused: int = 0  # with a 402
    surprises: list[str] = field(default_factory=list)
    attempts: int = 0
    _waiting: list[tuple[float, int, Wish]] = field(default_factory=list)
    _numbers: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._running = [
            threading.Thread(target=self._go, args=[number]) for number in range(self.threads)
        ]
        for thread in self._running:
            thread.start()

    def stop(self) -> None:
        """No new calls; returns when those under way have ended."""
        self._stopped.set()
        for thread in self._running:
            thread.join()

    def settle(self, *, timeout_seconds: float) -> None:
        """Asks again for every call with a key whose outcome is not known. Raises AssertionError
        where one stays unknown."""
        deadline = time.monotonic() + timeout_seconds
        rng = random.Random(f"{self.seed}-settle")
        with httpx.Client(trust_env=False) as http:
            while self._waiting:
                assert time.monotonic() < deadline, f"{len(self._waiting)} calls have no outcome"
                wish = self._due()
                if wish is None:
                    time.sleep(0.1)
                else:
                    self._attempt(http, rng, wish)

    def _go(self, number: int) -> None:
        rng = random.Random(f"{self.seed}-{number}")
        with httpx.Client(trust_env=False) as http:
            while not self._stopped.is_set():
                wish = self._next(rng)
                if wish is None:
                    time.sleep(0.1)
                else:
                    self._attempt(http, rng, wish)

    def _next(self, rng: random.Random) -> Wish | None:
        is_full = len(self._waiting) >= UNKNOWN_AT_MOST
        if (is_full or rng.random() < OLD_FIRST) and (old := self._due()) is not None:
            return old
        if is_full:
            return None
        if rng.random() < REPEATED and (again := self._some_answered(rng)) is not None:
            return again
        with self._lock:
            self._numbers += 1
            number = self._numbers
        wallet = rng.choice(sorted(self.tokens))
        if rng.random() < BAD:
            return Wish(number, wallet, None, None)
        key = f"{self.seed}-{number}" if rng.random() < KEYED else None
        return Wish(number, wallet, key, number / 8)

    def _due(self) -> Wish | None:
        with self._lock:
            if self._waiting and self._waiting[0][0] <= time.monotonic():
                return heapq.heappop(self._waiting)[2]
        return None

    def _some_answered(self, rng: random.Random) -> Wish | None:
        with self._lock:
            known = self.answered.get(rng.randint(1, max(self._numbers, 1)))
        return known.wish if known is not None and known.wish.key is not None else None

    def _attempt(self, http: httpx.Client, rng: random.Random, wish: Wish) -> None:
        headers = {"Authorization": f"Bearer {self.tokens[wish.wallet]}"}
        if wish.key is not None:
            headers["Idempotency-Key"] = wish.key
        url = f"{rng.choice(self.urls)}/inference/v1/{self.reference}"
        try:
            patience = GONE_SECONDS if rng.random() < GONE else PATIENT_SECONDS
            answer = http.post(url, json=wish.document, headers=headers, timeout=patience)
        except httpx.HTTPError:
            # Nobody there, or cut off: whether it was served is not known.
            time.sleep(0.1)
            self._unknown(wish)
            return
        self._note(wish, answer)

    def _note(self, wish: Wish, answer: httpx.Response) -> None:
        status = answer.status_code
        with self._lock:
            self.attempts += 1
        if status == 200:
            self._served(wish, answer)
        elif status == 402:
            self.refused += 1
        elif wish.celsius is None and status == 422:
            pass
        elif status in TEMPORARY:
            self._unknown(wish)
        else:
            self.surprises.append(f"{wish}: {status} {answer.text[:300]}")

    def _served(self, wish: Wish, answer: httpx.Response) -> None:
        receipt, fee = answer.headers["Inframind-Receipt"], answer.headers["Inframind-Fee"]
        with self._lock:
            before = self.answered.setdefault(wish.number, Answered(wish, receipt, fee))
        if before.receipt != receipt:
            self.surprises.append(f"{wish}: receipt {receipt} after {before.receipt}")

    def _unknown(self, wish: Wish) -> None:
        """To be asked for again where that is safe, which a key makes it."""
        if wish.key is None or wish.number in self.answered:
            return
        with self._lock:
            due = time.monotonic() + AGAIN_SECONDS
            heapq.heappush(self._waiting, (due, wish.number, wish))
