"""The pool of connections against servers that keep to HTTP, and against those that do not."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from marketplace.mesh import client, exchange, sockets, transport
from marketplace.mesh.client import Incoming, Outgoing

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIVE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Talk = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> bytes:
        """The next request, head and body. Raises ``IncompleteReadError`` at the end."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        return head + await self.reader.readexactly(length)

    async def say(self, *pieces: bytes, pause: float = 0.0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if pause:
                await asyncio.sleep(pause)


class Server:
    """Answers by ``talk``, one connection at a time each; remembers what it saw."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.connections = 0
        self.open: set[asyncio.Task[Any]] = set()
        self.endpoint = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            await self._talk(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open.discard(task)
            writer.close()


@asynccontextmanager
async def serving(
    talk: Talk, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Server, sockets.Pool]]:
    server = Server(talk)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.endpoint = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    pool = sockets.Pool()
    try:
        yield server, pool
    finally:
        await pool.aclose()
        listening.close()
        for task in list(server.open):
            task.cancel()
        await asyncio.gather(*server.open, return_exceptions=True)


def always(*pieces: bytes, pause: float = 0.0, then_close: bool = False) -> Talk:
    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(*pieces, pause=pause)
            if then_close:
                return

    return talk


async def ask(
    server: Server, pool: sockets.Pool, *, timeout_seconds: float = 5.0, **options: Any
) -> sockets.Reply:
    return await pool.request(
        "POST",
        server.endpoint,
        "/x",
        timeout_seconds=timeout_seconds,
        connect_seconds=2.0,
        **options,
    )


@pytest.fixture(autouse=True)
def nodes_may_be_here(settings: Any) -> None:
    settings.ALLOW_LOOPBACK_NODES = True


@pytest.fixture(params=["asyncio", "uvloop"], autouse=True)
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a coroutine on either loop; what is left open afterwards fails the test."""

    def work(coroutine: Any) -> Any:
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            result = runner.run(coroutine)
        gc.collect()
        return result

    return work


def test_requests_one_after_the_other_share_a_connection(run: Any) -> None:
    seen: list[bytes] = []

    async def talk(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            await peer.say(GOOD)

    async def main() -> None:
        async with serving(talk) as (server, pool):
            for body in (b"one", (b"t", b"wo"), b""):
                reply = await ask(server, pool, body=body, headers=b"X-Y: z\r\n")
                assert (reply.status, reply.content) == (200, b"ok")
            assert server.connections == 1
            host = server.endpoint.removeprefix("http://").encode()
            assert seen == [
                b"POST /x HTTP/1.1\r\nHost: %b\r\nX-Y: z\r\nContent-Length: %d\r\n\r\n%b"
                % (host, len(body), body)
                for body in (b"one", b"two", b"")
            ]

    run(main())


def test_requests_at_once_have_a_connection_each_and_their_own_answers(run: Any) -> None:
    async def talk(peer: Peer) -> None:
        while True:
            body = (await peer.request()).split(b"\r\n\r\n", 1)[1]
            await asyncio.sleep(0.02)
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def main() -> None:
        async with serving(talk) as (server, pool):
            for _ in range(3):
                bodies = [b"%d" % number for number in range(40)]
                replies = await asyncio.gather(*(ask(server, pool, body=each) for each in bodies))
                assert [each.content for each in replies] == bodies
            assert server.connections == 40

    run(main())


@pytest.mark.parametrize("size", [exchange.LARGE_BYTES - 1, exchange.LARGE_BYTES, 3_000_001])
def test_large_bodies_go_both_ways_whole(run: Any, size: int) -> None:
    body = os.urandom(size)

    async def talk(peer: Peer) -> None:
        while True:
            given = (await peer.request()).split(b"\r\n\r\n", 1)[1]
            head = b"HTTP/1.1 200 OK\r\nContent-Len"
            await peer.say(head, b"gth: %d\r\n\r" % len(given), pause=0.01)
            await peer.say(b"\n" + given)

    async def main() -> None:
        async with serving(talk) as (server, pool):
            for given in (body, (body[:10], body[10:])):
                assert (await ask(server, pool, body=given)).content == body
            assert server.connections == 1

    run(main())


@pytest.mark.parametrize(
    "pieces",
    [
        [bytes([each]) for each in GOOD],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"],
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"2;a=b\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n",
        ],
        [b"HTTP/1.1 100 Continue\r\n\r\n", GOOD],
        [b"HTTP/1.1 103 Early Hints\r\nContent-Length: 99999999\r\n\r\n" + GOOD],
    ],
)
def test_every_lawful_way_to_answer_is_read_and_leaves_the_connection_open(
    run: Any, pieces: list[bytes]
) -> None:
    async def main() -> None:
        async with serving(always(*pieces, pause=0.001)) as (server, pool):
            for _ in range(3):
                reply = await ask(server, pool)
                assert (reply.status, reply.content) == (200, b"ok")
            assert server.connections == 1

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        # What nobody asked for would be taken for the next answer.
        GOOD + GOOD.replace(b"ok", b"no"),
        GOOD + b"\x00garbage",
        GOOD + b"H",
    ],
)
def test_a_connection_that_is_not_at_rest_after_its_answer_serves_no_other(
    run: Any, answer: bytes
) -> None:
    async def main() -> None:
        async with serving(always(answer, then_close=True)) as (server, pool):
            for _ in range(3):
                assert (await ask(server, pool)).content == b"ok"
            assert server.connections == 3

    run(main())


def test_bytes_between_answers_end_the_connection(run: Any) -> None:
    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(GOOD)
            await asyncio.sleep(0.05)
            await peer.say(GOOD.replace(b"ok", b"no"))

    async def main() -> None:
        async with serving(talk) as (server, pool):
            for _ in range(3):
                assert (await ask(server, pool)).content == b"ok"
                await asyncio.sleep(0.15)
            assert server.connections == 3

    run(main())


def test_a_connection_the_server_closed_while_idle_is_not_used_again(run: Any) -> None:
    async def main() -> None:
        async with serving(always(GOOD, then_close=True)) as (server, pool):
            for _ in range(3):
                assert (await ask(server, pool)).content == b"ok"
                await asyncio.sleep(0.05)
            assert server.connections == 3

    run(main())


BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
HOSTILE: dict[str, tuple[Talk, type[sockets.WireError]]] = {
    "garbage": (always(b"\x16\x03\x01 not http\r\n\r\n"), sockets.NotHttp),
    "a redirect of the transfer": (
        always(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        sockets.NotHttp,
    ),
    "two lengths": (
        always(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        sockets.NotHttp,
    ),
    "a length and chunks": (
        always(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nok\r\n0\r\n\r\n"
        ),
        sockets.NotHttp,
    ),
    "a length below zero": (
        always(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
        sockets.NotHttp,
    ),
    "a length beyond 64 bits": (
        always(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok"),
        sockets.NotHttp,
    ),
    "a bad chunk": (
        always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        sockets.NotHttp,
    ),
    "gzip": (
        always(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"),
        sockets.NotHttp,
    ),
    "gzip as a transfer": (
        always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        sockets.NotHttp,
    ),
    "closed at once": (always(then_close=True), sockets.Broken),
    "closed in the headers": (
        always(b"HTTP/1.1 200 OK\r\nContent-Le", then_close=True),
        sockets.Broken,
    ),
    "closed in the body": (always(BIG + b"short", then_close=True), sockets.Broken),
    "closed in a chunk": (
        always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", then_close=True),
        sockets.Broken,
    ),
    "announced too large": (
        always(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"),
        sockets.TooLarge,
    ),
    "silence": (always(), sockets.TimedOut),
    "a drip": (always(BIG, *[b"x"] * 100, pause=0.1), sockets.TimedOut),
    "a drip of headers": (
        always(b"HTTP/1.1 200 OK\r\n", *[b"a: b\r\n"] * 50, pause=0.05),
        sockets.TimedOut,
    ),
}


async def _pour(peer: Peer, head: bytes, again: bytes) -> None:
    await peer.request()
    await peer.say(head)
    while True:
        await peer.say(again)


def endless(head: bytes, again: bytes) -> Talk:
    return lambda peer: _pour(peer, head, again)


def patience(name: str) -> float:
    """Seconds after which the answer of a hostile server is late, long where it shall not be."""
    return 0.3 if HOSTILE[name][1] is sockets.TimedOut else 20.0


# A node's answer may be 64 MiB, so that these are not refused at once.
TOO_LARGE = ("announced too large", "an endless body", "endless chunks")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HOSTILE |= {
    "endless headers": (endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 100), sockets.NotHttp),
    "an endless header": (endless(b"HTTP/1.1 200 OK\r\na: ", b"b" * 1000), sockets.NotHttp),
    "an endless reason": (endless(b"HTTP/1.1 200 ", b"OK" * 1000), sockets.NotHttp),
    "an endless body": (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"b" * 100), sockets.TooLarge),
    "endless chunks": (endless(CHUNKED, b"40\r\n%b\r\n" % (b"x" * 64) * 5), sockets.TooLarge),
    "an endless name of a chunk": (endless(CHUNKED + b"1;", b"a" * 1000), sockets.NotHttp),
    "endless trailers": (endless(CHUNKED + b"0\r\n", b"a: b\r\n" * 100), sockets.NotHttp),
    "endless interim answers": (
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
        sockets.NotHttp,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_is_told_by_name_and_leaves_nothing_behind(run: Any, name: str) -> None:
    talk, expected = HOSTILE[name]

    async def main() -> None:
        async with serving(talk) as (server, pool):
            for _ in range(2):
                with pytest.raises(sockets.WireError) as caught:
                    await ask(server, pool, timeout_seconds=patience(name), max_bytes=1000)
                assert type(caught.value) is expected
            assert server.connections == 2
            # Every connection was ended, not only let go of.
            for _ in range(100):
                if not server.open:
                    break
                await asyncio.sleep(0.01)
            if HOSTILE[name][1] is not sockets.TimedOut:
                assert server.open == set()

    run(main())


def test_an_answer_in_tiny_chunks_is_not_read_to_its_end(run: Any) -> None:
    # Each chunk costs as much time as a large one: 64 MiB of these would take minutes.
    async def main() -> None:
        async with serving(endless(CHUNKED, b"1\r\nx\r\n" * 500)) as (server, pool):
            with pytest.raises(sockets.NotHttp):
                await ask(server, pool, timeout_seconds=20)

    run(main())


def test_an_answer_before_the_question_was_read_ends_the_connection(run: Any) -> None:
    async def talk(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(GOOD)
        await asyncio.sleep(5)

    async def main() -> None:
        async with serving(talk) as (server, pool):
            reply = await ask(server, pool, body=bytes(32 << 20))
            assert reply.content == b"ok"
            # Its head would be read as the rest of the first one's body.
            assert (await ask(server, pool)).content == b"ok"
            assert server.connections == 2

    run(main())


def test_who_is_cancelled_takes_the_connection_along(run: Any) -> None:
    async def talk(peer: Peer) -> None:
        while True:
            body = (await peer.request()).split(b"\r\n\r\n", 1)[1]
            await asyncio.sleep(0.1)
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def main() -> None:
        async with serving(talk) as (server, pool):
            first = asyncio.ensure_future(ask(server, pool, body=b"first"))
            await asyncio.sleep(0.05)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert (await ask(server, pool, body=b"second")).content == b"second"
            assert server.connections == 2

    run(main())


def test_a_request_is_written_once_even_when_the_connection_breaks(run: Any) -> None:
    seen: list[bytes] = []

    async def talk(peer: Peer) -> None:
        seen.append(await peer.request())
        if len(seen) > 1:
            peer.writer.transport.abort()
            return
        await peer.say(GOOD)
        seen.append(await peer.request())

    async def main() -> None:
        async with serving(talk) as (server, pool):
            await ask(server, pool)
            with pytest.raises(sockets.Broken):
                await ask(server, pool)
            assert len(seen) == 2

    run(main())


def test_an_idle_connection_is_closed_after_a_while(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(sockets, "_SWEEP_SECONDS", 0.02)

    async def main() -> None:
        async with serving(always(GOOD)) as (server, pool):
            await asyncio.gather(*(ask(server, pool) for _ in range(5)))
            assert len(server.open) == 5
            await asyncio.sleep(0.3)
            assert server.open == set()

    run(main())


def test_nobody_listens(run: Any) -> None:
    async def main() -> None:
        async with serving(always(GOOD)) as (server, pool):
            server.endpoint = "http://127.0.0.1:1"
            with pytest.raises(sockets.NoConnection):
                await ask(server, pool)

    run(main())


@pytest.mark.parametrize("endpoint", ["", "ftp://a", "http://", "http://a:99999999", "//a"])
def test_what_is_no_address_is_no_connection(run: Any, endpoint: str) -> None:
    async def main() -> None:
        async with serving(always(GOOD)) as (server, pool):
            server.endpoint = endpoint
            with pytest.raises(sockets.NoConnection):
                await ask(server, pool)

    run(main())


def certified(host: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's side, the side of who trusts it) of a certificate for this host."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


@pytest.mark.parametrize(("name", "trusted"), [("node.test", True), ("other.test", False)])
def test_a_certificate_is_held_against_the_name(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool
) -> None:
    theirs, ours = certified("node.test", tmp_path)

    async def here(*_: Any) -> tuple[str, ...]:
        return ("127.0.0.1",)

    monkeypatch.setattr(transport, "certificates", lambda: ours)
    monkeypatch.setattr(transport, "addresses", here)

    async def main() -> None:
        async with serving(always(GOOD), tls=theirs) as (server, pool):
            server.endpoint = server.endpoint.replace("http://127.0.0.1", f"https://{name}")
            if trusted:
                for _ in range(2):
                    assert (await ask(server, pool)).content == b"ok"
                assert server.connections == 1
            else:
                with pytest.raises(sockets.NoConnection):
                    await ask(server, pool)

    run(main())


def test_another_address_of_the_name_is_tried(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def two(*_: Any) -> tuple[str, ...]:
        return ("127.0.0.9", "127.0.0.1")

    monkeypatch.setattr(transport, "addresses", two)

    async def main() -> None:
        async with serving(always(GOOD)) as (server, pool):
            server.endpoint = server.endpoint.replace("127.0.0.1", "node.test")
            assert (await ask(server, pool)).content == b"ok"

    run(main())


def test_a_closed_pool_ends_what_is_under_way_and_begins_nothing(run: Any) -> None:
    async def main() -> None:
        async with serving(always()) as (server, pool):
            asked = asyncio.ensure_future(ask(server, pool))
            await asyncio.sleep(0.05)
            await pool.aclose()
            with pytest.raises(sockets.Broken):
                await asked
            with pytest.raises(sockets.NoConnection):
                await ask(server, pool)

    run(main())


def silent(*, lives: bool) -> Talk:
    """Takes every question and answers only whether it lives, if that."""

    async def talk(peer: Peer) -> None:
        while True:
            head = await peer.request()
            if b"/v2/health/live" in head and lives:
                await peer.say(LIVE)

    return talk


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(sockets, "LOOK_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_answers_nothing_any_more_is_given_up_before_the_deadline(run: Any) -> None:
    async def main() -> None:
        async with serving(silent(lives=False)) as (server, pool):
            asked = [ask(server, pool, timeout_seconds=20, watched=True) for _ in range(5)]
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(each) for each in results] == [sockets.WentSilent] * 5

    run(main())


@pytest.mark.usefixtures("impatient")
def test_a_server_that_lives_is_waited_for_until_the_deadline(run: Any) -> None:
    async def main() -> None:
        async with serving(silent(lives=True)) as (server, pool):
            asked = [ask(server, pool, timeout_seconds=1.0, watched=True) for _ in range(5)]
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(each) for each in results] == [sockets.TimedOut] * 5
            # One look for all who wait, on a connection that is used again.
            assert server.connections == 6

    run(main())


@pytest.mark.usefixtures("impatient")
def test_who_is_not_watched_is_not_given_up(run: Any) -> None:
    async def main() -> None:
        async with serving(silent(lives=False)) as (server, pool):
            with pytest.raises(sockets.TimedOut):
                await ask(server, pool, timeout_seconds=0.8)
            assert server.connections == 1

    run(main())


NODE_ANSWERS: list[Any] = [
    (b"302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0", client.NodeUnreachable),
    (b"401 Unauthorized\r\nContent-Length: 0", client.NodeUnreachable),
    (b"502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", client.NodeUnreachable),
    (b"500 Error\r\nContent-Length: 13\r\n\r\n" + b'{"error":"x"}', client.ModelFailed),
    (b"400 Bad\r\nContent-Length: 13\r\n\r\n" + b'{"error":"x"}', client.ModelFailed),
    (
        b"500 Error\r\nContent-Length: 35\r\n\r\n" + b'{"error":"Stub process is not here"}'[:35],
        client.NodeUnreachable,
    ),
    (b"404 Not Found\r\nContent-Length: 0", client.NotLoaded),
    (b"503 Unavailable\r\nContent-Length: 0", client.NotLoaded),
    (
        b"400 Bad\r\nContent-Length: 39\r\n\r\n" + b'{"error":"Request for unknown model: "}',
        client.NotLoaded,
    ),
    (b"200 OK\r\nContent-Length: 99999999999", client.ModelFailed),
    # No server says so much of an error.
    pytest.param(
        b"500 Error\r\nContent-Length: 1000012\r\n\r\n" + b'{"error":"%b"}' % (b" x" * 500_000),
        client.NodeUnreachable,
        id="a long error",
    ),
]


@pytest.mark.parametrize(("answer", "expected"), NODE_ANSWERS)
def test_what_a_node_answers_is_told_in_the_words_of_the_mesh(
    run: Any, answer: bytes, expected: type[client.NodeError]
) -> None:
    whole = b"HTTP/1.1 " + answer + (b"" if b"\r\n\r\n" in answer else b"\r\n\r\n")

    async def main() -> None:
        async with serving(always(whole)) as (server, pool):
            with pytest.raises(client.NodeError) as caught:
                await client.infer(
                    pool, server.endpoint, "m", Outgoing(b"{}", None), timeout_seconds=2
                )
            assert type(caught.value) is expected

    run(main())


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in TOO_LARGE])
def test_a_hostile_node_raises_nothing_but_the_errors_of_a_node(run: Any, name: str) -> None:
    async def main() -> None:
        async with serving(HOSTILE[name][0]) as (server, pool):
            with pytest.raises(client.NodeError):
                await client.infer(
                    pool,
                    server.endpoint,
                    "m",
                    Outgoing(b"{}", None),
                    timeout_seconds=patience(name),
                )
            # What does not read the question does not answer whether it lives, either.
            assert await client.answers_at_all(pool, server.endpoint) is False

    run(main())


@pytest.mark.parametrize(
    ("header", "length"),
    [(b"", None), (b"5", 5), (b"-5", -1), (b"x", -1), (b"5 5", -1), (b"9" * 5_000, -1)],
    ids=["none", "5", "-5", "x", "5 5", "many digits"],
)
def test_the_length_of_an_answers_json_is_what_the_node_says_or_nonsense(
    run: Any, header: bytes, length: int | None
) -> None:
    line = b"Inference-Header-Content-Length: %b\r\n" % header if header else b""
    answer = b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\n{}" % line

    async def main() -> None:
        async with serving(always(answer)) as (server, pool):
            found = await client.infer(
                pool, server.endpoint, "m", Outgoing((b"{", b"}"), 1), timeout_seconds=2
            )
            assert found == Incoming(b"{}", length)

    run(main())
