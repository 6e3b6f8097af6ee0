"""The embedded servers, one by one."""

from __future__ import annotations

import json
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import redis
import tritonclient.http as triton

from inframind.devstack import accounts
from inframind.devstack.ports import free_ports, is_taken
from inframind.devstack.postgres import Postgres, start_postgres
from inframind.devstack.processes import Children, StackProblem
from inframind.devstack.redis import start_redis
from inframind.devstack.triton import CONTROL_HEADER, Node
from inframind.devstack.web import Application
from tests import servers

CONFIG = json.dumps(
    {
        "backend": "python",
        "max_batch_size": 0,
        "input": [{"name": "document", "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [{"name": "document", "data_type": "TYPE_STRING", "dims": [1]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    }
)
LOOKS_AROUND = b"""
import json, os, pathlib, socket
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        self.here = pathlib.Path(args["model_repository"], args["model_version"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        asked = json.loads(pb.get_input_tensor_by_name(request, "document").as_numpy()[0])
        try:
            socket.create_connection(("127.0.0.1", asked["port"]), timeout=2).close()
            reached = True
        except OSError:
            reached = False
        document = {
            "weights": (self.here / "package" / "weights" / "x.bin").read_text(),
            "uid": os.getuid(),
            "reached": reached,
            "sees": [path for path in asked["paths"] if os.path.exists(path)],
            "writes": [path for path in asked["paths"] if os.access(path, os.W_OK)],
            "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
        }
        text = np.array([json.dumps(document).encode()], dtype=object)
        return pb.InferenceResponse([pb.Tensor("document", text)])
"""
FILES = {"file:1/model.py": LOOKS_AROUND, "file:1/package/weights/x.bin": b"abc"}


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    all_of_them = Children(tmp_path / "log")
    try:
        yield all_of_them
    finally:
        all_of_them.close()


def write_row(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as session:
        session.execute("CREATE TABLE kept (word text)")
        session.execute("INSERT INTO kept VALUES ('ää')")


def test_postgres_keeps_its_data_over_a_restart(open_folder: Path) -> None:
    for turn in range(2):
        children = Children(open_folder / "log")
        try:
            postgres = start_postgres(children, folder=open_folder / "pg", password="s3")
            if turn == 0:
                write_row(postgres)
            with psycopg.connect(postgres.url) as session:
                row = session.execute("SELECT word, version() FROM kept").fetchone()
            assert row is not None
            assert row[0] == "ää"
            assert row[1].startswith("PostgreSQL 18.")
        finally:
            children.close()
        assert not list(postgres.socket_dir.iterdir())


@pytest.mark.skipif(not accounts.is_root(), reason="only root starts servers as another user")
def test_postgres_of_root_comes_up_below_a_private_home(children: Children, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)

    postgres = start_postgres(children, folder=home / "clone" / "var" / "pg", password="s3")

    place = Path((home / "clone" / "var" / "pg" / "location").read_text().strip())
    try:
        assert home.stat().st_mode & 0o777 == 0o700
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        write_row(postgres)
    finally:
        children.close()
        shutil.rmtree(place)


def test_postgres_wants_the_password(children: Children, open_folder: Path) -> None:
    postgres = start_postgres(children, folder=open_folder / "pg", password="s3")

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(Postgres(postgres.child, postgres.socket_dir, "guess").url)


def test_redis_keeps_its_data_over_a_restart_and_wants_the_password(tmp_path: Path) -> None:
    for turn in range(2):
        children = Children(tmp_path / "log")
        try:
            server = start_redis(children, folder=tmp_path / "redis", password="s3")
            with redis.Redis.from_url(server.url_of(5)) as client:
                if turn == 0:
                    client.set("kept", "yes")
                assert client.get("kept") == b"yes"
            with (
                redis.Redis(port=server.port) as stranger,
                pytest.raises(redis.AuthenticationError),
            ):
                stranger.ping()
        finally:
            children.close()
        assert not is_taken(server.port)


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert not any(is_taken(port) for port in ports)


def test_a_taken_web_port_is_told_with_a_remedy(children: Children, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(StackProblem, match=rf"Port {port} is taken .*PORT={port + 1} make"):
            Application(children, tmp_path, {}).web(port)


def ask(node: Node, document: dict[str, Any]) -> dict[str, Any]:
    with triton.InferenceServerClient(node.endpoint.removeprefix("http://")) as client:
        client.load_model(
            "looks-around", headers={CONTROL_HEADER: node.secret}, config=CONFIG, files=FILES
        )
        tensor = triton.InferInput("document", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([json.dumps(document).encode()], dtype=object))
        answer = client.infer("looks-around", [tensor]).as_numpy("document")
        found: dict[str, Any] = json.loads(answer[0])
        return found


def test_a_killed_node_comes_back_empty_on_its_ports(private_triton_node: Node) -> None:
    node = private_triton_node
    port = node.ports["http"]
    assert ask(node, {"port": port, "paths": []})["weights"] == "abc"

    node.kill()
    assert not node.is_ready()
    assert not is_taken(port)
    node.restart()

    assert node.ports["http"] == port
    with triton.InferenceServerClient(node.endpoint.removeprefix("http://")) as client:
        assert not client.is_model_ready("looks-around")
    assert ask(node, {"port": port, "paths": []})["weights"] == "abc"


def test_model_control_needs_the_secret(private_triton_node: Node) -> None:
    with (
        triton.InferenceServerClient(private_triton_node.endpoint[7:]) as client,
        pytest.raises(triton.InferenceServerException, match="restricted"),
    ):
        client.load_model("m", config=CONFIG, files=FILES)


def test_a_node_whose_port_was_taken_moves_to_another(private_triton_node: Node) -> None:
    node = private_triton_node
    node.stop()
    port = node.ports["http"]
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()

        node.start()

    assert node.ports["http"] != port
    assert node.is_ready()


def test_a_stopped_node_leaves_no_temporary_folder(private_triton_node: Node) -> None:
    before = set(Path("/tmp").glob("folder*"))
    ask(private_triton_node, {"port": 1, "paths": []})
    mine = set(Path("/tmp").glob("folder*")) - before

    private_triton_node.stop()

    assert not any((path / "1" / "package" / "weights" / "x.bin").exists() for path in mine)


def test_the_sandbox_is_as_far_apart_as_it_says(tmp_path: Path) -> None:
    with servers.private_node(name="apart", is_sandbox=True) as node, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        asked = {
            "port": listener.getsockname()[1],
            "paths": [str(tmp_path), "/etc/shadow", "/usr", "/usr/bin"],
        }

        seen = ask(node, asked)

        assert seen["weights"] == "abc"
        assert node.isolation.startswith("Publisher code runs under ")
        assert seen["reached"] == ("without network" not in node.isolation)
        if "a user of its own" in node.isolation:
            assert seen["uid"] == accounts.SANDBOX.uid
            assert seen["writes"] == []
        if "without our files" in node.isolation:
            assert seen["sees"] == ["/usr", "/usr/bin"]
            assert seen["processes"] < 10
