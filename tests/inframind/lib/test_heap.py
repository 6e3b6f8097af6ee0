"""Freed memory that stays with the process."""

import resource
import subprocess
import sys

PROGRAM = """
import resource, sys
from inframind.lib.heap import keep_freed

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    assert keep_freed()

def bodies():
    # Several calls at once, each with pieces that become a body.
    return [b"".join([bytes(1 << 18) for _ in range(4)]) for _ in range(4)]

for _ in range(20):
    bodies()
before = faults()
for _ in range(50):
    bodies()
print(faults() - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_large_bodies_are_not_mapped_anew_each_time() -> None:
    pages_of_one_body = (1 << 20) // resource.getpagesize()
    assert faults("kept") < pages_of_one_body
    # Without it, most of the 200 bodies are.
    assert faults("not kept") > 100 * pages_of_one_body
