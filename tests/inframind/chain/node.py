"""A chain of its own for a test: py-evm behind JSON-RPC over HTTP, in a process of its own.

``python -m tests.inframind.chain.node`` prints its address and serves until its input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import httpx


@dataclass(frozen=True)
class Node:
    """A running node, with one rich account."""

    url: str
    process: subprocess.Popen[str]

    def ask(self, method: str, *params: Any) -> Any:
        document = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(self.url, json=document, timeout=30).json()
        assert "error" not in answer, answer
        return answer["result"]

    @property
    def chain_id(self) -> int:
        return int(self.ask("eth_chainId"), 16)

    def deploy(self, runtime: bytes) -> str:
        """The checksummed address of a contract with this code."""
        [sender, *_] = self.ask("eth_accounts")
        code = "0x" + (_returns(runtime) + runtime).hex()
        sent = self.ask("eth_sendTransaction", {"from": sender, "data": code, "gas": "0xf4240"})
        return str(self.ask("eth_getTransactionReceipt", sent)["contractAddress"])

    def stop(self) -> None:
        self.process.communicate(timeout=10)


@contextmanager
def running() -> Iterator[Node]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    node = Node(process.stdout.readline().strip(), process)
    try:
        yield node
    finally:
        node.stop()


def wallet_of(owner: str) -> bytes:
    """The code of a contract wallet whose ``isValidSignature(bytes32,bytes)`` says yes to what the
    owner's key signed, and reverts otherwise."""
    return (
        bytes.fromhex(
            "6004356000 52"  # memory[0x00] = the digest: calldata[0x04]
            "60a43560f81c 602052"  # memory[0x20] = v: the byte at calldata[0xa4]
            "6040 6064 6040 37"  # memory[0x40..0x80] = r and s: calldata[0x64..0xa4]
            "6020 6000 6080 6000 6001 5a fa 50"  # memory[0x00] = ecrecover(memory[0..0x80])
            "600051"  # the address that signed
            "73"  # PUSH20, the owner follows
        )
        + bytes.fromhex(owner[2:])
        + bytes.fromhex(
            "14 6044 57"  # equal? then go on at 0x44
            "6000 6000 fd"  # else revert
            "5b 631626ba7e 60e01b 6000 52 6020 6000 f3"  # return 0x1626ba7e, padded right
        )
    )


def answers(word: bytes) -> bytes:
    """The code of a contract that answers every call with these 32 bytes."""
    return b"\x7f" + word + bytes.fromhex("6000 52 6020 6000 f3")


def _returns(runtime: bytes) -> bytes:
    """The code that runs once, at deployment, and leaves ``runtime`` behind (at offset 11)."""
    return bytes.fromhex("60") + bytes([len(runtime)]) + bytes.fromhex("80 600b 6000 39 6000 f3")


def _serve() -> None:
    from eth_tester import EthereumTester, PyEVMBackend
    from web3 import EthereumTesterProvider, Web3
    from web3.exceptions import ContractLogicError

    web3 = Web3(EthereumTesterProvider(EthereumTester(PyEVMBackend())))
    lock = Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
            try:
                with lock:
                    result = web3.manager.request_blocking(asked["method"], asked["params"])
                # py-evm answers numbers where the protocol has hexadecimal.
                answer["result"] = (
                    hex(result) if isinstance(result, int) else json.loads(Web3.to_json(result))
                )
            except ContractLogicError as error:
                answer["error"] = {"code": 3, "message": f"execution reverted: {error}"}
            except Exception as error:
                answer["error"] = {"code": -32603, "message": f"{type(error).__name__}: {error}"}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
