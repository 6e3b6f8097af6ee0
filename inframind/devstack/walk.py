"""The main job before the viewer's eyes: a small model is published, verified and called."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from inframind.devstack.nodevenv import ROOT
from inframind.devstack.stack import Stack

NAME = "temperature-v1"
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
README = """\
# temperature-v1

Multiplies by 1.8 and adds 32. 37.5 °C is 99.5 °F.

The demo publishes it with `infra register`, so that you can see what publishing looks like.
"""


def write_package(folder: Path) -> Path:
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
    (folder / "model.yaml").write_text(MANIFEST)
    (folder / "README.md").write_text(README)
    return folder


@dataclass(frozen=True, slots=True)
class Walk:
    """The ``infra`` command against a running stack, its output on the terminal."""

    stack: Stack

    def run(self) -> None:
        """Publish, verify, call. Raises StackProblem at the first command that fails."""
        package = write_package(self.stack.var / "demo" / "walk" / NAME)
        self.stack.say("\nNow the main job, as a publisher and a caller would do it:")
        self._infra("register", "--model", _shown(package / "model.yaml"))
        self._infra("model", "show", NAME)
        self._infra("call", "--model", NAME, "celsius:=37.5")
        self.stack.say("\nA call that has its price, under a budget; only an answer costs:")
        self._infra(
            "call", "--model", "language-id-v1", "--budget", "0.05IFM", "text=Wo ist der Bahnhof?"
        )

    def _infra(self, *arguments: str) -> None:
        self.stack.say(f"\n$ {shlex.join(['infra', *arguments])}")
        token = (self.stack.var / "demo" / "token").read_text().strip()
        self.stack.children.run(
            f"infra {arguments[0]}",
            [sys.executable, "-m", "inframind.cli", *arguments],
            env={
                **os.environ,
                "INFRA_URL": self.stack.url,
                "INFRA_TOKEN": token,
                # The person's own configuration has no say in a demo.
                "XDG_CONFIG_HOME": str(self.stack.var / "demo" / "config"),
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

Try:
  curl -s {stack.url}/inference/v1/summarizer-v1 -H 'Content-Type: application/json' \\
       -d '{{"text": "Bees dance. The dance tells where flowers are. Others follow it."}}'
  export INFRA_URL={stack.url} INFRA_TOKEN=$(cat {token})
  .venv/bin/infra model list
  .venv/bin/infra call --model filetype-v1 content@Makefile
  .venv/bin/infra model export --help
"""
