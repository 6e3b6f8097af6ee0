"""Children live, die and are reported as the stack promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inframind.devstack.processes import Children, StackProblem

GRANDCHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(600)
"""
DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    all_of_them = Children(tmp_path / "log")
    try:
        yield all_of_them
    finally:
        all_of_them.close()


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def gone(pid: int, *, within_seconds: float = 10) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def written_pid(path: Path) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")


def test_an_end_while_starting_is_reported_with_the_last_log_lines(
    children: Children, tmp_path: Path
) -> None:
    code = "print('line one'); print('the port is gone'); raise SystemExit(7)"
    child = children.start("part", python(code), env={}, cwd=tmp_path)

    with pytest.raises(StackProblem) as problem:
        child.wait_until_ready(lambda: False, timeout_seconds=20, goes_on=children.goes_on)

    assert str(problem.value) == (
        "part ended with status 7. Its last lines:\nline one\nthe port is gone\n"
        f"The whole log: {tmp_path / 'log' / 'part.log'}"
    )


def test_lines_of_an_earlier_run_are_not_reported(children: Children, tmp_path: Path) -> None:
    for word in ("earlier", "now"):
        code = f"print({word!r}); raise SystemExit(1)"
        child = children.start("part", python(code), env={}, cwd=tmp_path)
        child.wait()

    assert child.last_lines() == "now"
    assert (tmp_path / "log" / "part.log").read_text() == "earlier\nnow\n"


def test_a_part_that_is_never_ready_is_reported(children: Children, tmp_path: Path) -> None:
    child = children.start("part", python("import time; time.sleep(600)"), env={}, cwd=tmp_path)

    with pytest.raises(StackProblem, match=r"part was not ready within 0 s\. It wrote nothing\."):
        child.wait_until_ready(lambda: False, timeout_seconds=0.2, goes_on=children.goes_on)


def test_a_command_that_does_not_exist_is_named(children: Children, tmp_path: Path) -> None:
    with pytest.raises(StackProblem, match="cannot run /nowhere/program: "):
        children.run("part", ["/nowhere/program"], env={}, cwd=tmp_path)


def test_an_answer_from_another_program_does_not_count(children: Children, tmp_path: Path) -> None:
    child = children.start("part", python("raise SystemExit(1)"), env={}, cwd=tmp_path)

    def another_program_answers() -> bool:
        child.wait()
        return True

    with pytest.raises(StackProblem, match="part ended with status 1"):
        child.wait_until_ready(another_program_answers, timeout_seconds=5, goes_on=children.goes_on)


def test_the_exit_status_is_the_programs_own(children: Children, tmp_path: Path) -> None:
    by_itself = children.start("a", python("raise SystemExit(3)"), env={}, cwd=tmp_path)
    by_signal = children.start(
        "b", python("import os; os.kill(os.getpid(), 9)"), env={}, cwd=tmp_path
    )

    assert by_itself.wait() == 3
    assert by_signal.wait() == 128 + signal.SIGKILL


def test_stop_ends_descendants_in_other_sessions_too(children: Children, tmp_path: Path) -> None:
    child = children.start("part", python(GRANDCHILD, str(tmp_path / "pid")), env={}, cwd=tmp_path)
    pid = written_pid(tmp_path / "pid")

    child.stop()

    assert gone(pid, within_seconds=1)
    assert children.running == []


def test_what_ignores_the_gentle_signal_is_killed(children: Children, tmp_path: Path) -> None:
    child = children.start("part", python(DEAF), env={}, cwd=tmp_path, grace_seconds=0.3)
    child.wait_until_ready(
        lambda: child.last_lines() == "deaf", timeout_seconds=10, goes_on=children.goes_on
    )

    child.stop()

    assert child.wait() == 128 + signal.SIGKILL


def test_kill_is_at_once(children: Children, tmp_path: Path) -> None:
    child = children.start("part", python(DEAF), env={}, cwd=tmp_path, grace_seconds=60)
    child.wait_until_ready(
        lambda: child.last_lines() == "deaf", timeout_seconds=10, goes_on=children.goes_on
    )
    before = time.monotonic()

    child.kill()

    assert time.monotonic() - before < 5


def test_nothing_starts_once_the_stack_is_closed(tmp_path: Path) -> None:
    children = Children(tmp_path / "log")
    children.close()

    with pytest.raises(StackProblem, match="being stopped"):
        children.start("late", python("pass"), env={}, cwd=tmp_path)


def test_a_part_that_ended_by_itself_stays_known_until_dismissed(
    children: Children, tmp_path: Path
) -> None:
    lost = children.start("lost", python("raise SystemExit(1)"), env={}, cwd=tmp_path)
    lost.wait()
    children.run("command", python("pass"), env={}, cwd=tmp_path)

    assert children.started == [lost]
    lost.stop()
    assert children.started == []


PARENT = """
import sys, time
from pathlib import Path
from inframind.devstack.processes import Children
folder = Path(sys.argv[1])
children = Children(folder / "log")
child = children.start("part", [sys.executable, "-c", sys.argv[2], str(folder / "pid")],
                       env={}, cwd=folder)
(folder / "guard").write_text(str(child.pid))
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_orphan_is_left_when_the_parent_is_killed(
    tmp_path: Path, number: signal.Signals
) -> None:
    parent = subprocess.Popen(python(PARENT, str(tmp_path), GRANDCHILD), env=os.environ)
    grandchild = written_pid(tmp_path / "pid")
    guard = written_pid(tmp_path / "guard")

    parent.send_signal(number)
    parent.wait()

    assert gone(grandchild)
    assert gone(guard)


def test_the_program_dies_with_its_guard(children: Children, tmp_path: Path) -> None:
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    child = children.start("part", python(code, str(tmp_path / "pid")), env={}, cwd=tmp_path)
    pid = written_pid(tmp_path / "pid")

    child.process.kill()

    assert gone(pid)
    child.stop()
