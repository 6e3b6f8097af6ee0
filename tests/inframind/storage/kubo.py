"""A counterpart of Kubo's RPC API over real HTTP: `add`, `block/get`, `pin/*` on a dict of blocks.

It follows the query options as Kubo does, so a client that forgets one gets another CID.
"""

import json
import threading
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from inframind.lib.cid import Cid, FileBuilder, Node, directory_tree, parse_cid

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58_text(cid: str) -> str:
    """The same CID as base58btc text, as some nodes answer."""
    number = int.from_bytes(bytes(parse_cid(cid)))
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "z" + text


@dataclass
class KuboNode:
    """Runs while entered. `blocks` and `pins` can be looked at and damaged."""

    blocks: dict[str, bytes] = field(default_factory=dict)
    pins: set[str] = field(default_factory=set)
    answers_base58: bool = False
    ignores_chunker: bool = False
    hang: threading.Event | None = None

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"kubo": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.hang is not None:
            self.hang.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, options: dict[str, str], files: list[tuple[str, bytes]]) -> list[dict[str, str]]:
        chunk_bytes = int(options.get("chunker", "size-262144").removeprefix("size-"))
        fan_out = int(options.get("max-file-links", "174"))
        if options.get("cid-version") != "1" or options.get("raw-leaves") != "true":
            raise ValueError("this node makes CIDs of version 1 with raw leaves only")
        if self.ignores_chunker:
            chunk_bytes = 262144

        def keep(cid: Cid, block: bytes) -> None:
            self.blocks[str(cid)] = block

        nodes: list[tuple[str, Node]] = []
        for path, data in files:
            builder = FileBuilder(keep, chunk_bytes=chunk_bytes, fan_out=fan_out)
            builder.feed(data)
            nodes.append((path, builder.finish()))
        top = nodes[0][0].split("/")[0]
        root = directory_tree([(path.partition("/")[2], node) for path, node in nodes], keep)
        if options.get("pin") == "true":
            self.pins.add(str(root.cid))
        answers = [*((path, str(node.cid)) for path, node in nodes), (top, str(root.cid))]
        return [
            {"Name": name, "Hash": base58_text(cid) if self.answers_base58 else cid, "Size": "0"}
            for name, cid in answers
        ]


class _Handler(BaseHTTPRequestHandler):
    kubo: KuboNode

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        options = {key: values[0] for key, values in parse_qs(url.query).items()}
        # Kubo reads "True" as it reads "true".
        options |= {key: value.lower() for key, value in options.items() if key != "arg"}
        body = self._body()
        match url.path.removeprefix("/api/v0/"):
            case "add":
                self._add(options, body)
            case "block/get":
                self._block(options["arg"])
            case "pin/ls":
                cid = str(parse_cid(options["arg"]))
                if cid in self.kubo.pins:
                    self._json({"Keys": {cid: {"Type": "recursive"}}})
                else:
                    self._error(f"path '{options['arg']}' is not pinned")
            case "pin/rm":
                cid = str(parse_cid(options["arg"]))
                if cid in self.kubo.pins:
                    self.kubo.pins.discard(cid)
                    self._json({"Pins": [cid]})
                else:
                    self._error("not pinned or pinned indirectly")
            case other:
                self._error(f"no endpoint {other}", status=404)

    def log_message(self, format: str, *args: object) -> None:
        """Tests stay quiet."""

    def _add(self, options: dict[str, str], body: bytes) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        files: list[tuple[str, bytes]] = []
        for part in message_from_bytes(head + body).walk():
            # As Kubo: whatever is no directory is a file, of whichever media type.
            if part.is_multipart() or part.get_content_type() == "application/x-directory":
                continue
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            files.append((unquote(str(part.get_filename())), data))
        try:
            answers = self.kubo.add(options, files)
        except ValueError as error:
            self._error(str(error))
            return
        self._send(200, "".join(json.dumps(answer) + "\n" for answer in answers).encode())

    def _block(self, text: str) -> None:
        if self.kubo.hang is not None:
            self.kubo.hang.wait(30)
        block = self.kubo.blocks.get(str(parse_cid(text)))
        if block is None:
            self._error(f"block was not found locally (offline): ipld: could not find {text}")
        else:
            self._send(200, block, kind="application/octet-stream")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode())

    def _error(self, message: str, *, status: int = 500) -> None:
        self._send(status, json.dumps({"Message": message, "Code": 0, "Type": "error"}).encode())

    def _send(self, status: int, body: bytes, *, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
