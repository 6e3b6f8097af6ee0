"""A tree of 100,000 leaves with every proof, beside @openzeppelin/merkle-tree in the same run.

`python -m benchmarks.trees`: both hash the same leaves, build the tree and write every proof out;
the roots and the number of nodes in all proofs have to be equal. Theirs warms up first and checks
each proof as it makes it; ours is the median of five. Exits 1 below the bar of 30 times.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import reports
from inframind.devstack.chaintools import ensure_chain_tools
from inframind.devstack.processes import Children
from inframind.lib.merkle import Tree, leaves_of, verify

LEAVES = int(os.environ.get("BENCH_LEAVES", "100000"))
ROUNDS = 5
BAR = 30.0

# Prints a JSON document: root, proofs, seconds to build, seconds for every proof.
SCRIPT = """
const { StandardMerkleTree } = require('@openzeppelin/merkle-tree');
const values = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const types = ['address', 'bytes32', 'uint256'];
const warm = StandardMerkleTree.of(values.slice(0, 2000), types);
for (const [index] of warm.entries()) warm.getProof(index);
const started = performance.now();
const tree = StandardMerkleTree.of(values, types);
const built = performance.now();
let nodes = 0;
for (const [index] of tree.entries()) nodes += tree.getProof(index).length;
const done = performance.now();
console.log(JSON.stringify({
  root: tree.root, nodes, build: (built - started) / 1000, proofs: (done - built) / 1000,
}));
"""

Entry = tuple[str, bytes, int]


def main(out: Path) -> None:
    """Measures, prints a table and writes `<out>/trees.json`; exits 1 below the bar."""
    chance = random.Random(1)
    entries = [
        ("0x" + chance.randbytes(20).hex(), chance.randbytes(32), chance.randrange(1, 10**24))
        for _ in range(LEAVES)
    ]
    theirs = _openzeppelin(entries)
    ours = sorted((_ours(entries) for _ in range(ROUNDS)), key=lambda each: sum(each[2:]))
    root, nodes, build, proofs = ours[ROUNDS // 2]
    if (root, nodes) != (theirs["root"], theirs["nodes"]):
        raise SystemExit("The two do not build the same tree.")
    measured = {
        "inframind.lib.merkle": (build, proofs),
        "@openzeppelin/merkle-tree": (theirs["build"], theirs["proofs"]),
    }
    print(f"{LEAVES:,} leaves, root {root}")
    for name, (to_build, to_prove) in measured.items():
        print(
            f"{name:<28} tree {to_build:>8.3f} s   every proof {to_prove:>8.3f} s   together "
            f"{to_build + to_prove:>8.3f} s",
            flush=True,
        )
    rows = [
        {"name": name, "build_s": to_build, "proofs_s": to_prove}
        for name, (to_build, to_prove) in measured.items()
    ]
    times = (theirs["build"] + theirs["proofs"]) / (build + proofs)
    missed = "" if times >= BAR else ", missed"
    print(f"{'':<28} {times:.0f} times as fast   bar {BAR:.0f}{missed}")
    reports.write(out, "trees", leaves=LEAVES, rows=rows, times=round(times, 1))


def _ours(entries: list[Entry]) -> tuple[str, int, float, float]:
    started = time.perf_counter()
    tree = Tree.of(leaves_of(entries))
    built = time.perf_counter()
    proofs = list(tree.proofs())
    done = time.perf_counter()
    assert verify(tree.root, leaves_of(entries[:1])[0], proofs[0])
    return "0x" + tree.root.hex(), sum(map(len, proofs)), built - started, done - built


def _openzeppelin(entries: list[Entry]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as logs:
        children = Children(Path(logs))
        try:
            tools = ensure_chain_tools(children, say=print)
        finally:
            children.close()
    values = [[account, f"0x{stream.hex()}", str(amount)] for account, stream, amount in entries]
    done = subprocess.run(
        [tools.node, "-e", SCRIPT],
        input=json.dumps(values),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "NODE_PATH": str(tools.modules)},
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path("var") / "bench")
