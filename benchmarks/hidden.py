"""Whether time tells a private model from a name that does not exist: paired requests, compared.

Each sample asks for a private name and for an unknown one of the same length, in an order drawn by
chance, as a stranger with a token and as one without. A Wilcoxon signed-rank test on the paired
differences says whether there is one; a control beside it compares a public name with the unknown
one, and has to find the difference that really is there.
"""

from __future__ import annotations

import math
import os
import random
import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from django.db import transaction

from benchmarks import reports
from inframind.identity.models import Wallet
from inframind.identity.services import mint_token
from marketplace.catalog.models import Model, Version

SAMPLES = int(os.environ.get("BENCH_PAIRS", "2000"))
WARM_UP = 100
# Two-sided 1 in 10,000: with eight comparisons a run, chance alone fails one run in a thousand.
Z_LIMIT = 3.89
PUBLIC = "language-id-v1"


@dataclass(frozen=True)
class Compared:
    """One comparison: medians in microseconds, z of the signed-rank test, and what it means."""

    front: str
    asks: str
    pairs: int
    median_us: float
    median_difference_us: float
    z: float

    @property
    def told_apart(self) -> bool:
        return abs(self.z) > Z_LIMIT


def main(out: Path) -> None:
    """Measures, prints a table and writes `<out>/hidden.json`; exits 1 where time tells."""
    private, unknown = _private_name(), f"hidden-{secrets.token_hex(6)}"
    token = _token()
    found: list[Compared] = []
    controls: list[Compared] = []
    with httpx.Client(base_url=os.environ["INFRA_URL"], timeout=30) as http:
        for front, send in _fronts(http, token).items():
            found.append(_compare(front, "private / unknown", send, private, unknown))
            _print(found[-1])
        control = _fronts(http, token)["api"]
        controls.append(_compare("api", "public / unknown", control, PUBLIC, unknown))
        _print(controls[-1])
    rows = [{**asdict(each), "told_apart": each.told_apart} for each in [*found, *controls]]
    reports.write(out, "hidden", z_limit=Z_LIMIT, rows=rows)
    if not all(each.told_apart for each in controls):
        raise SystemExit("The control found no difference where there is one: nothing is shown.")
    if any(each.told_apart for each in found):
        raise SystemExit("Time tells a private model from a name that does not exist.")


def signed_rank_z(differences: Sequence[float]) -> float:
    """z of Wilcoxon's signed-rank test (normal approximation; zeros dropped, ties averaged)."""
    ordered = sorted((abs(each), each) for each in differences if each)
    positive, variance, start = 0.0, 0.0, 0
    count = len(ordered)
    while start < count:
        end = start
        while end < count and ordered[end][0] == ordered[start][0]:
            end += 1
        rank = (start + 1 + end) / 2
        positive += rank * sum(1 for _, each in ordered[start:end] if each > 0)
        variance -= ((end - start) ** 3 - (end - start)) / 48
        start = end
    mean = count * (count + 1) / 4
    variance += count * (count + 1) * (2 * count + 1) / 24
    return (positive - mean) / math.sqrt(variance) if variance else 0.0


def _private_name() -> str:
    """A private model of nobody here, with a served version, as visible ones have."""
    name = f"hidden-{secrets.token_hex(6)}"
    template = Version.objects.select_related("model").get(model=PUBLIC, number="1.0.0")
    owner = Wallet.objects.of("0x" + secrets.token_hex(20))
    with transaction.atomic():
        model = Model.objects.create(
            name=name,
            skeleton=name,
            owner=owner,
            public=False,
            auth_required=True,
            restricted=True,
        )
        template.pk, template.model, template._state.adding = None, model, True
        template.id = Version._meta.get_field("id").get_default()
        template.published_by = owner
        template.save()
        model.current = template
        model.save(update_fields=["current"])
    return name


def _token() -> str:
    _, token = mint_token(
        wallet=Wallet.objects.of("0x" + secrets.token_hex(20)),
        name="bench",
        actions=["invoke"],
        model_scope="any",
        lifetime=timedelta(hours=1),
    )
    return token


def _fronts(http: httpx.Client, token: str) -> dict[str, Callable[[str], Any]]:
    bearer = {"Authorization": f"Bearer {token}"}
    body: Any = {"text": "Wo ist der Bahnhof?"}
    return {
        "page": lambda name: http.get(f"/models/{name}"),
        "api": lambda name: http.get(f"/api/v1/models/{name}"),
        "api, token": lambda name: http.get(f"/api/v1/models/{name}", headers=bearer),
        "package": lambda name: http.get(f"/api/v1/models/{name}/versions/1.0.0/package"),
        "call, token": lambda name: http.post(
            f"/inference/v1/{name}", json=body, headers=bearer
        ),
    }  # fmt: skip


def _compare(front: str, asks: str, send: Callable[[str], Any], one: str, other: str) -> Compared:
    differences: list[float] = []
    taken: list[float] = []
    for number in range(WARM_UP + SAMPLES):
        pair = {}
        for name in random.sample([one, other], 2):
            started = time.perf_counter()
            send(name)
            pair[name] = (time.perf_counter() - started) * 1_000_000
        if number >= WARM_UP:
            differences.append(pair[one] - pair[other])
            taken.append(pair[other])
    return Compared(
        front=front,
        asks=asks,
        pairs=SAMPLES,
        median_us=round(statistics.median(taken), 1),
        median_difference_us=round(statistics.median(differences), 1),
        z=round(signed_rank_z(differences), 2),
    )


def _print(compared: Compared) -> None:
    print(
        f"{compared.front:<12} {compared.asks:<18} {compared.pairs} pairs   "
        f"median {compared.median_us:>8.1f} µs   difference {compared.median_difference_us:>+7.1f} "
        f"µs   z {compared.z:>+6.2f}   {'told apart' if compared.told_apart else 'no difference'}",
        flush=True,
    )
