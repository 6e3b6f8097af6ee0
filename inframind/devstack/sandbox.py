"""Runs a node for publisher code apart from the machine. A script of the standard library only.

usage: python -I -S sandbox.py PLAN, where PLAN is JSON: ``command`` (its parts may hold ``{http}``,
``{grpc}`` and ``{metrics}``, the node's own ports), ``env``, ``visible`` (folders that it may
read), ``uid`` and ``gid`` (where we are root), and ``report``, the file that says where the node is
reached and how far it is apart: ``ports``, ``user``, ``network``, ``files`` and ``reason``.

The node gets a network of its own that holds nothing but a loopback, a file tree of its own that
holds nothing but programs, and other processes are out of its sight. This process stands in both
networks: it took its listening sockets along from outside and relays what comes in.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

LOOPBACK = "127.0.0.1"
PARTS = ("http", "grpc", "metrics")
INNER_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
PIECE_BYTES = 1 << 18

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

PROGRAM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("null", "zero", "full", "random", "urandom")

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    plan = json.loads(sys.argv[1])
    outside = {part: _listen() for part in PARTS}
    ports = {part: each.getsockname()[1] for part, each in outside.items()}
    network, reason = _own_network()
    inner = INNER_PORTS if network else _free_ports()
    command = [part.format(**inner) for part in plan["command"]]
    node, files, user = -1, False, False
    attempts = [(True, "uid" in plan), (False, "uid" in plan), (False, False)]
    for files, user in attempts if network else attempts[1:]:
        node, problem = _start(plan, command, files=files, user=user)
        if not problem:
            break
        reason = reason or problem
    else:
        sys.exit(f"cannot start the node: {reason}")
    _report(
        plan["report"],
        {"ports": ports, "user": user, "network": network, "files": files, "reason": reason},
    )
    os._exit(asyncio.run(_relay(outside, inner, node)))


def _call(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _listen() -> socket.socket:
    outside = socket.socket()
    outside.bind((LOOPBACK, 0))
    outside.listen(256)
    return outside


def _free_ports() -> dict[str, int]:
    sockets = {part: _listen() for part in PARTS}
    ports = {part: each.getsockname()[1] for part, each in sockets.items()}
    for each in sockets.values():
        each.close()
    return ports


def _own_network() -> tuple[bool, str]:
    """Moves this process into an empty network; (False, why) where the machine does not let us."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        flags = CLONE_NEWNET | (CLONE_NEWUSER if uid != 0 else 0)
        _call("no namespace of its own", _libc.unshare(flags))
        if uid != 0:
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{uid} {uid} 1"),
                ("gid_map", f"{gid} {gid} 1"),
            ):
                with open(f"/proc/self/{name}", "w") as stream:
                    stream.write(text)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = struct.pack("16sh22x", b"lo", IFF_UP)
            fcntl.ioctl(control, SIOCSIFFLAGS, request)
    except OSError as error:
        return False, str(error)
    return True, ""


def _start(plan: dict[str, Any], command: list[str], *, files: bool, user: bool) -> tuple[int, str]:
    """Fork the node's process; (pid, "") once it became the program, else why it could not."""
    said_read, said_write = os.pipe()
    relay = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(said_read)
        try:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != relay:
                os._exit(1)
            if files:
                _own_processes()
                _own_files(plan)
            _become(plan, command, user=user)
        except OSError as error:
            os.write(said_write, str(error).encode())
        os._exit(127)
    os.close(said_write)
    with os.fdopen(said_read, "rb") as said:
        problem = said.read().decode()
    if problem:
        os.waitpid(pid, 0)
    return pid, problem


def _own_processes() -> None:
    """Go on as the first process of a new process namespace; the forked one waits for it."""
    _call("no namespaces", _libc.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID))
    first = os.fork()
    if first == 0:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        return
    os.closerange(3, 4096)
    signal.signal(signal.SIGTERM, lambda number, _frame: os.kill(first, number))
    _, status = os.waitpid(first, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    _call(f"mount {target}", result)


def _own_files(plan: dict[str, Any]) -> None:
    """Build a file tree of programs only, and make it the root."""
    root = plan["root"]
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=16m")
    # Before the rest: what is shown may lie below /tmp.
    for path, options in (("/dev/shm", "mode=1777,size=1g"), ("/tmp", "mode=1777,size=4g")):  # noqa: S108
        os.makedirs(root + path, exist_ok=True)
        _mount("tmpfs", root + path, "tmpfs", MS_NOSUID | MS_NODEV, options)
    for folder in PROGRAM_FOLDERS:
        if os.path.islink(folder):
            os.symlink(os.readlink(folder), root + folder)
        elif os.path.isdir(folder):
            _show(root, folder)
    for path in (*SYSTEM_FILES, *plan["visible"]):
        if os.path.exists(path):
            _show(root, path)
    for name in DEVICES:
        _show(root, f"/dev/{name}", device=True)
    os.makedirs(root + "/proc", exist_ok=True)
    _mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    with open(root + "/etc/passwd", "w") as accounts:
        accounts.write(f"sandbox:x:{plan.get('uid', os.getuid())}:0:sandbox:/tmp:/bin/sh\n")
    _mount("none", root, "", MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.chroot(root)
    os.chdir("/tmp")  # noqa: S108


def _show(root: str, path: str, *, device: bool = False) -> None:
    """Let a folder or file of the machine appear in the tree, read-only."""
    target = root + path
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "a"):
            pass
    _mount(path, target, "", MS_BIND | MS_REC)
    if device:
        return
    # The flags that the original mount has are locked in a user namespace and must be kept.
    kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _mount("none", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def _become(plan: dict[str, Any], command: list[str], *, user: bool) -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if user:
        os.setgroups([])
        os.setgid(plan["gid"])
        os.setuid(plan["uid"])
        # Cleared by the change of user.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for path in plan["needed"]:
        if not os.access(path, os.R_OK | os.X_OK):
            raise OSError(f"the sandbox user cannot read {path}")
    os.execve(command[0], command, plan["env"])  # noqa: S606


def _report(path: str, document: dict[str, Any]) -> None:
    with open(path + ".new", "w") as stream:
        json.dump(document, stream)
    os.rename(path + ".new", path)


async def _relay(outside: dict[str, socket.socket], inner: dict[str, int], node: int) -> int:
    """Relay connections until the node ends; its exit status."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, os.kill, node, number)

    def carrier(port: int) -> Any:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far_reader, far_writer = await asyncio.open_connection(
                    LOOPBACK, port, limit=PIECE_BYTES
                )
            except OSError:
                writer.transport.abort()
                return
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

        return carry

    for part, listening in outside.items():
        await asyncio.start_server(carrier(inner[part]), sock=listening, limit=PIECE_BYTES)
    _, status = await loop.run_in_executor(None, os.waitpid, node, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        # One side is gone: so is the conversation.
        writer.transport.abort()


if __name__ == "__main__":
    main()
