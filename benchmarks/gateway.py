"""What the gateway costs: its calls beside direct ones to Triton and beside LiteLLM's, in one run.

One node runs every model; one gateway process, as in production apart from the pages, with all of
it on: token, limits, schemas, lease, routing, a receipt row that is durable before the answer.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import tritonclient.http as triton_http

from benchmarks import echo, litellm, reports
from benchmarks.server import Gateway, assert_durable, gateway
from benchmarks.wrk import Load, Target, load
from billing.ledger import queries as ledger
from inframind.identity.models import Wallet
from inframind.identity.queries import authenticate
from inframind.identity.services import mint_token
from inframind.lib.amounts import format_ifm
from marketplace.catalog.models import Version
from marketplace.gateway.models import Call
from marketplace.mesh import client, placing, services
from marketplace.mesh.modelconfig import triton_name
from marketplace.mesh.models import Placement
from marketplace.mesh.tensors import encode

SECONDS = float(os.environ.get("BENCH_SECONDS", "8"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
CONCURRENCIES = (1, 16)
FEE = "0.000001 IFM"
TENSOR_BYTES = 1 << 20
DOCUMENT = {"text": "The quick brown fox jumps over the lazy dog."}


@dataclass(frozen=True)
class Bar:
    """A ratio between two sides of the run, and what it has to be."""

    what: str
    found: float
    wanted: float
    at_most: bool = False

    @property
    def reached(self) -> bool:
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted


def main(out: Path) -> None:
    """Measures, prints a table and the bars, writes `<out>/gateway.json`."""
    out.mkdir(parents=True, exist_ok=True)
    durable = assert_durable()
    paid = echo.text_model("echo-paid-v1", fee=FEE)
    free = echo.text_model("echo-free-v1", fee="")
    tensor = echo.tensor_model("echo-floats-v1")
    flat = echo.embedding_model("echo-flat-v1")
    versions = [paid, free, tensor, flat]
    endpoint = one_node(versions)
    with gateway() as served:
        flat_url = f"{endpoint}/v2/models/{triton_name(flat.pk)}/infer"
        with litellm.proxy(out, flat_url) as peer:
            token = paying_token()
            sides = {
                "triton": _direct(endpoint, paid),
                "paid": call_of(served, paid, token),
                "free": call_of(served, free, token),
                "litellm": peer,
            }
            rows = _rounds(sides, CONCURRENCIES)
        tensors = {
            "triton 1 MiB": _tensor(f"{endpoint}/v2/models/{triton_name(tensor.pk)}/infer", None),
            "gateway 1 MiB": _tensor(f"{served.url}/v2/models/{tensor.model_id}/infer", token),
        }
        rows |= _rounds(tensors, (4,))
    bars = _bars(rows)
    for bar in bars:
        sign = "<=" if bar.at_most else ">="
        word = "" if bar.reached else "   NOT REACHED"
        print(f"{bar.what:<58} {bar.found:>8.3f}  wanted {sign} {bar.wanted:g}{word}", flush=True)
    reports.write(
        out,
        "gateway",
        seconds=SECONDS,
        rounds=ROUNDS,
        postgresql=durable,
        litellm=litellm.VERSION,
        rows={
            f"{side} at {concurrency}": [each.as_document() for each in loads]
            for (side, concurrency), loads in rows.items()
        },
        bars=[{**vars(bar), "reached": bar.reached} for bar in bars],
    )
    failed = {side: each for side, loads in rows.items() for each in loads if each.failed}
    if failed:
        raise SystemExit(f"Requests failed: {failed}")


def one_node(versions: list[Version]) -> str:
    """Every version on the same node and nowhere else, since what is compared is the way there;
    the node's endpoint."""
    node = placing.eligible_nodes(versions[0])[0]
    for version in versions:
        Placement.objects.filter(version=version).exclude(node=node).delete()
        placement = services.place(version_id=version.pk, node_id=node.pk, again=True)
        if placement.state != Placement.State.READY:
            raise SystemExit(f"{version} is not ready on {node}: {placement.reason}")
    return node.endpoint


def _rounds(
    sides: dict[str, Target], concurrencies: tuple[int, ...]
) -> dict[tuple[str, int], list[Load]]:
    """Each side in turn, several times, so that a slow minute of the machine meets all of them."""
    rows: dict[tuple[str, int], list[Load]] = {}
    for turn in range(ROUNDS):
        for concurrency in concurrencies:
            for side, target in sides.items():
                before = Call.objects.count() if side == "paid" else 0
                found = load(target, concurrency=concurrency, seconds=SECONDS)
                rows.setdefault((side, concurrency), []).append(found)
                print(
                    f"{turn + 1}  {side:<14} c={concurrency:<3} {found.per_second:>9.1f} req/s  "
                    f"p50 {found.p50_ms:>7.2f}  p95 {found.p95_ms:>7.2f}  "
                    f"p99 {found.p99_ms:>7.2f} ms  failed {found.failed}",
                    flush=True,
                )
                if side == "paid":
                    _recorded(found, Call.objects.count() - before)
    return rows


def _recorded(found: Load, rows: int) -> None:
    """Each answer that arrived has its row: ends the run where the database has fewer."""
    if rows < found.requests:
        raise SystemExit(f"{found.requests} answers, and only {rows} rows.")


def _bars(rows: dict[tuple[str, int], list[Load]]) -> list[Bar]:
    def best(side: str, concurrency: int) -> Load:
        return max(rows[side, concurrency], key=lambda each: each.per_second)

    def p50(side: str) -> float:
        return min(each.p50_ms for each in rows[side, 1])

    triton, lite = best("triton", 16).per_second, best("litellm", 16).per_second
    paid, free = best("paid", 16).per_second, best("free", 16).per_second
    added = p50("paid") - p50("triton")
    direct, through = best("triton 1 MiB", 4), best("gateway 1 MiB", 4)
    return [
        Bar("paid at 16, times LiteLLM", paid / lite, 30),
        Bar("paid at 16, of direct Triton", paid / triton, 0.35),
        Bar("free at 16, times LiteLLM", free / lite, 35),
        Bar("free at 16, of direct Triton", free / triton, 0.40),
        Bar("added p50 at 1, paid, ms", added, 0.5, at_most=True),
        Bar("added p50 at 1, of what LiteLLM adds", added / (p50("litellm") - p50("triton")), 0.1,
            at_most=True),
        Bar("OIP v2, 1 MiB tensor, of direct Triton's bytes/s", through.per_second
            / direct.per_second, 0.6),
    ]  # fmt: skip


def paying_token() -> str:
    """Of the stack's funded wallet."""
    wallet = Wallet.objects.get(pk=authenticate(os.environ["INFRA_TOKEN"]).address)
    balance = ledger.balance_of(wallet.address).balance_base_units
    print(f"{wallet.address} pays, balance {format_ifm(balance)}", flush=True)
    name = f"bench-{secrets.token_hex(3)}"
    lifetime = timedelta(hours=6)
    return mint_token(wallet=wallet, name=name, actions=["invoke"], lifetime=lifetime)[1]


def _direct(endpoint: str, version: Version) -> Target:
    """The model's own request on its node, tensors in binary."""
    program = placing.program_of(version)
    sent = client.outgoing_of(
        encode(DOCUMENT, program.inputs, max_batch_size=program.max_batch_size)
    )
    body = sent.body if isinstance(sent.body, bytes) else b"".join(sent.body)
    headers = {"Content-Type": "application/octet-stream"}
    if sent.header_length is not None:
        headers["Inference-Header-Content-Length"] = str(sent.header_length)
    return Target(f"{endpoint}/v2/models/{triton_name(version.pk)}/infer", headers, body)


def call_of(served: Gateway, version: Version, token: str) -> Target:
    return Target(
        f"{served.url}/inference/v1/{version.model_id}",
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        orjson.dumps(DOCUMENT),
    )


def _tensor(url: str, token: str | None) -> Target:
    """1 MiB of FP32 in the binary extension, the answer in binary too."""

    data = np.arange(TENSOR_BYTES // 4, dtype=np.float32)
    given = triton_http.InferInput("x", list(data.shape), "FP32")
    given.set_data_from_numpy(data)
    wanted = triton_http.InferRequestedOutput("y", binary_data=True)
    body, header_length = triton_http.InferenceServerClient.generate_request_body(
        [given], outputs=[wanted]
    )
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(header_length),
    }
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return Target(url, headers, body)
