"""The main job before the viewer's eyes: a small model is published, verified and called."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import onnx
from onnx import TensorProto, helper

from inframind.devstack.nodevenv import ROOT
from inframind.devstack.processes import StackProblem
from inframind.devstack.stack import Stack

NAME = "temperature-v1"
VAULT = "agent-vault"
CLAIMABLE_SECONDS = 60
_RECEIPT = re.compile(r"receipt ([0-9a-f-]{36})")
# The first account of the well-known development mnemonic: anybody can use it, it holds nothing.
PUBLISHER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
GUEST = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
MANIFEST = """\
name: temperature-v1
version: 1.0.0
description: Turns degrees Celsius into degrees Fahrenheit; small enough to check by hand.
license: Apache-2.0
tags: [units, temperature, walk]
task: unit-conversion
runtime: onnx
entrypoint: model.onnx
resources: {cpu: 1, memory: 64Mi}
stability: stable
privacy: []
access: {public: true}
pricing: {per_request_fee: 0 IFM}

input_schema:
  $schema: http://json-schema.org/draft-07/schema#
  title: Temperature in Celsius
  type: object
  required: [celsius]
  additionalProperties: false
  properties:
    celsius:
      title: Degrees Celsius
      type: number
      minimum: -273.15
      maximum: 1000000
      examples: [37.5]

output_schema:
  $schema: http://json-schema.org/draft-07/schema#
  title: Temperature in Fahrenheit
  type: object
  required: [fahrenheit]
  additionalProperties: false
  properties:
    fahrenheit:
      title: Degrees Fahrenheit
      type: number
      minimum: -459.67000001

tensors:
  max_batch_size: 0
  inputs:
    - {name: celsius, dtype: FP64, shape: []}
  outputs:
    - {name: fahrenheit, dtype: FP64, shape: []}

examples:
  - name: Water boils
    input: {celsius: 100}
    output: {fahrenheit: 212}
    tolerance: 0.000001
  - name: A fever
    input: {celsius: 38.5}
    output: {fahrenheit: 101.3}
    tolerance: 0.000001
"""
PRIVATE = MANIFEST.replace(f"name: {NAME}", f"name: {VAULT}").replace(
    "access: {public: true}",
    f'access: {{public: false, auth_required: true, allow_list: ["{GUEST}"]}}',
)
README = """\
# temperature-v1

Multiplies by 1.8 and adds 32. 37.5 °C is 99.5 °F.

The demo publishes it with `infra register`, so that you can see what publishing looks like.
"""


def write_package(folder: Path, manifest: str = MANIFEST) -> Path:
    """Write the package; the same bytes every time, so that a second walk finds it published."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["celsius", "factor"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["fahrenheit"]),
        ],
        "temperature",
        [helper.make_tensor_value_info("celsius", TensorProto.DOUBLE, [1])],
        [helper.make_tensor_value_info("fahrenheit", TensorProto.DOUBLE, [1])],
        [
            helper.make_tensor("factor", TensorProto.DOUBLE, [1], [1.8]),
            helper.make_tensor("offset", TensorProto.DOUBLE, [1], [32.0]),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="inframind"
    )
    onnx.checker.check_model(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (folder / "model.yaml").write_text(manifest)
    (folder / "README.md").write_text(README)
    return folder


@dataclass(frozen=True, slots=True)
class Walk:
    """The ``infra`` command against a running stack, its output on the terminal."""

    stack: Stack

    def run(self) -> None:
        """Publish, verify, call. Raises StackProblem at the first command that fails."""
        folder = self.stack.var / "demo" / "walk"
        package = write_package(folder / NAME)
        vault = write_package(folder / VAULT, PRIVATE)
        self.stack.say("\nNow the main job, as a publisher and a caller would do it:")
        self._infra("infra login --no-input")
        self._infra(f"infra register --model {shlex.quote(_shown(package / 'model.yaml'))}")
        self._infra(f"infra model show {NAME}")
        self._infra(f"infra call --model {NAME} celsius:=37.5")
        self.stack.say("\nA call that has its price, under a budget; only an answer costs:")
        self._infra("infra balance")
        called = self._heard(
            "infra call --model language-id-v1 --budget 0.05IFM text='Wo ist der Bahnhof?'"
        )
        self.stack.say("\nA private model: its package is sealed, and only its list may call it:")
        self._infra(f"infra register --model {shlex.quote(_shown(vault / 'model.yaml'))}")
        self._infra(f"infra model access show {VAULT}")
        self._infra(
            f"INFRA_TOKEN=$(infra token generate --model {VAULT} --expires-in 24h) "
            f"infra call --model {VAULT} celsius:=-40"
        )
        if self.stack.env.get("FAUCET"):
            self._settle(called)

    def _settle(self, called: str) -> None:
        """From the call's fee to what its owner has in hand, each step checked on the way."""
        self.stack.say("\nThe epoch is closed: fees become shares, and their root goes on chain:")
        self._infra("manage.py close_epoch")
        self._await_claimable()
        receipt = _RECEIPT.findall(called)
        if receipt:
            self._infra(f"infra receipt verify {receipt[-1]}")
        self._infra("infra rewards status")
        self._infra("infra rewards claim --yes")
        self._infra("infra rewards verify")
        self._infra("infra balance")
        self.stack.say("\nBooks against chain against receipts:")
        self._infra("manage.py reconcile")

    def _await_claimable(self) -> None:
        """The worker sends the root and sees it mined. Raises StackProblem where it does not."""
        deadline = time.monotonic() + CLAIMABLE_SECONDS
        while True:
            answer = httpx.get(f"{self.stack.url}/api/v1/epochs", trust_env=False, timeout=10)
            closed = [each for each in answer.json()["results"] if each["state"] != "open"]
            if all(each["state"] == "claimable" or each["root"] is None for each in closed):
                return
            if time.monotonic() > deadline:
                raise StackProblem(
                    "The epoch's root did not get onto the chain; see var/log/worker.log."
                )
            time.sleep(0.2)

    def _heard(self, line: str) -> str:
        """As ``_infra``; what it said on stderr."""
        said = self.stack.var / "demo" / "walk" / "said"
        self._infra(line, then=f" 2> >(tee {shlex.quote(str(said))} >&2); wait")
        return said.read_text()

    def _infra(self, line: str, *, then: str = "") -> None:
        """Show a line of the shell, and run it with the ``infra`` and the ``manage.py`` of this
        source tree; ``then`` is added unseen."""
        self.stack.say(f"\n$ {line}")
        home = self.stack.var / "demo"
        python = shlex.quote(sys.executable)
        command = (
            f'infra() {{ {python} -m inframind.cli "$@"; }}\n'
            f'manage.py() {{ {python} manage.py "$@"; }}\n'
            f"{line}{then}"
        )
        given = {name: value for name, value in os.environ.items() if name != "INFRA_TOKEN"}
        self.stack.children.run(
            "infra",
            ["bash", "-euc", command],
            env={
                **given,
                **self.stack.env,
                "INFRA_URL": self.stack.url,
                "INFRA_PRIVATE_KEY": PUBLISHER_KEY,
                "INFRA_RPC_URL": self.stack.env.get("ETH_RPC_URL", ""),
                # The person's own configuration has no say in a demo.
                "XDG_CONFIG_HOME": str(home / "config"),
                "XDG_DATA_HOME": str(home / "data"),
                "XDG_STATE_HOME": str(home / "state"),
            },
            cwd=ROOT,
            to_terminal=True,
        )


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def words_to_try(stack: Stack) -> str:
    """Commands that work while the stack runs."""
    token = _shown(stack.var / "demo" / "token")
    return f"""
Ready: {stack.url}/models/featured
       {stack.url}/epochs           what was charged, shared and claimed, with proofs
       {stack.url}/account/balance  sign in to top up

Try:
  curl -s {stack.url}/inference/v1/summarizer-v1 -H 'Content-Type: application/json' \\
       -d '{{"text": "Bees dance. The dance tells where flowers are. Others follow it."}}'
  export INFRA_URL={stack.url} INFRA_TOKEN=$(cat {token})
  .venv/bin/infra model list
  .venv/bin/infra call --model filetype-v1 content@Makefile
  .venv/bin/infra call --model agent-vault celsius:=21        # private: without the token, a 404
  .venv/bin/infra model access --help
  .venv/bin/infra usage
Sign in with a wallet of your own: {stack.url}/signin, or unset INFRA_TOKEN and
  .venv/bin/infra wallet create && .venv/bin/infra login
  .venv/bin/infra deposit 10IFM --faucet --relay              # test IFM, worth nothing
"""
