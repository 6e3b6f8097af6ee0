"""What the gateway costs: its calls beside direct ones to Triton, on the same model and node."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from inframind.identity.models import Wallet
from inframind.identity.services import mint_token
from marketplace.catalog.models import Version
from marketplace.mesh import client, placing, services
from marketplace.mesh.modelconfig import triton_name
from marketplace.mesh.models import Placement
from marketplace.mesh.tensors import encode

SECONDS = float(os.environ.get("BENCH_SECONDS", "8"))
CONCURRENCIES = (1, 16)
MODEL = os.environ.get("BENCH_MODEL", "language-id-v1")


def main(out: Path) -> None:
    """Measures, prints a table and writes `<out>/gateway.json`."""
    version = Version.objects.select_related("model").get(pk=current(MODEL))
    node = placing.eligible_nodes(version)[0]
    # One node for both sides: what is compared is the way there.
    Placement.objects.filter(version=version).exclude(node=node).delete()
    placement = services.place(version_id=version.pk, node_id=node.pk, again=True)
    if placement.state != Placement.State.READY:
        raise SystemExit(f"{version} is not ready on {node}: {placement.reason}")
    document = version.manifest["examples"][0]["input"]
    program = placing.program_of(version)
    tensors = encode(document, program.inputs, max_batch_size=program.max_batch_size)
    body, headers = client.request_of(tensors)
    direct = {
        "url": f"{node.endpoint}/v2/models/{triton_name(version.pk)}/infer",
        "headers": headers,
        "body_base64": base64.b64encode(body).decode(),
    }
    rows = []
    for concurrency in CONCURRENCIES:
        for side in ("triton", "gateway"):
            plan = direct if side == "triton" else through_gateway(version, document)
            result = generate({**plan, "concurrency": concurrency, "seconds": SECONDS})
            rows.append({"side": side, "concurrency": concurrency, **result})
            print_row(rows[-1])
    out.mkdir(parents=True, exist_ok=True)
    report = {
        "benchmark": "gateway",
        "model": str(version),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "seconds": SECONDS,
        "rows": rows,
    }
    (out / "gateway.json").write_text(json.dumps(report, indent=2) + "\n")
    failed = [row for row in rows if row["failed"]]
    if failed:
        count = sum(row["failed"] for row in failed)
        raise SystemExit(f"{count} requests failed, the first: {failed[0]['first_failure']}")


def current(name: str) -> Any:
    """The id of a model's current version."""
    found = Version.objects.filter(model_id=name, model__current__isnull=False)
    return found.values_list("model__current", flat=True).first()


def through_gateway(version: Version, document: Any) -> dict[str, Any]:
    """A plan with a wallet of its own, so that its allowance is whole."""
    _, token = mint_token(
        wallet=Wallet.objects.of("0x" + secrets.token_hex(20)),
        name="bench",
        actions=["invoke"],
        model_scope="any",
        lifetime=timedelta(hours=1),
    )
    return {
        "url": f"{os.environ['INFRA_URL']}/inference/v1/{version.model_id}",
        "headers": {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        "body_base64": base64.b64encode(json.dumps(document).encode()).decode(),
    }


def generate(plan: dict[str, Any]) -> dict[str, Any]:
    """Runs the load generator apart, so that it shares no interpreter with what it measures."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def print_row(row: dict[str, Any]) -> None:
    print(
        f"{row['side']:<8} c={row['concurrency']:<3} {row['requests_per_second']:>8.1f} req/s   "
        f"p50 {row['p50_ms']:>8.2f} ms   p95 {row['p95_ms']:>8.2f} ms   failed {row['failed']}",
        flush=True,
    )
