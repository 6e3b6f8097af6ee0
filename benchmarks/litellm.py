"""LiteLLM's proxy with a key, before the same Triton node, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from benchmarks.wrk import Target
from inframind.devstack.ports import free_ports

VERSION = "1.108.7"
KEY = "sk-benchmark"
START_SECONDS = 120


@contextmanager
def proxy(folder: Path, infer_url: str) -> Iterator[Target]:
    """The proxy, started with one Triton embedding model, and how to ask it.

    ``infer_url``: the model's on the node; it takes ``input_text`` and gives ``embedding``.
    """
    venv = folder / "litellm-venv"
    program = venv / "bin" / "litellm"
    if not program.exists():
        print(f"Installing litellm {VERSION}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run(
            [str(venv / "bin" / "pip"), "install", "--quiet", f"litellm[proxy]=={VERSION}"],
            check=True,
        )
    configuration = folder / "litellm.yaml"
    parameters = {"model": "triton/echo", "api_base": infer_url}
    configuration.write_text(
        yaml.safe_dump(
            {
                "model_list": [{"model_name": "echo", "litellm_params": parameters}],
                "general_settings": {"master_key": KEY},
                "litellm_settings": {"telemetry": False, "num_retries": 0},
            }
        )
    )
    port = free_ports(1)[0]
    kept = ("PATH", "HOME", "LANG")
    process = subprocess.Popen(
        [str(program), f"--config={configuration}", "--host=127.0.0.1", f"--port={port}"],
        # Its own settings only: it would take the stack's database for its own.
        env={name: os.environ[name] for name in kept if name in os.environ}
        | {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        while not _lives(url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit("LiteLLM does not start.")
            time.sleep(0.5)
        yield Target(
            f"{url}/v1/embeddings",
            {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
            b'{"model": "echo", "input": ["hello"]}',
        )
    finally:
        process.terminate()
        process.wait(30)


def _lives(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/liveliness", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
