"""A process of its own that makes calls: reads a plan as JSON on its first line, says "ready", and
does what the next lines say: "call" makes all calls at once and prints what they were answered,
"hang" prints "held" once funds are taken and then never ends, an end of input ends it.

``{"name", "token", "calls", "admission": bool, "clock_seconds": how far off its clock is}``
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from typing import Any


def main() -> None:
    """Runs until its input ends."""
    plan = json.loads(sys.stdin.readline())
    if offset := plan.get("clock_seconds"):
        real, real_ns = time.time, time.time_ns
        time.time = lambda: real() + offset
        time.time_ns = lambda: real_ns() + int(offset * 1e9)
    import django

    django.setup()
    from marketplace.gateway import admission, committing, loop, pipeline

    if not plan.get("admission", True):

        def nothing(*_: Any) -> frozenset[Any]:
            return frozenset()

        without = tuple(each for each in pipeline.STAGES if each is not admission.fund)
        vars(pipeline)["STAGES"] = without
        vars(committing)["_without_lease"] = nothing
    say("ready")
    for line in sys.stdin:
        if line.strip() == "hang":
            loop.submit(hang(plan), 60)
        say(json.dumps(loop.submit(calls(plan), 120)))
    loop.stop()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def calls(plan: dict[str, Any]) -> dict[str, int]:
    """Makes the calls at once; how often what came of them."""
    from marketplace.gateway import pipeline
    from tests.marketplace.gateway.money import request_of

    answers = await asyncio.gather(
        *(pipeline.call(request_of(plan["name"], plan["token"])) for _ in range(plan["calls"]))
    )
    return dict(
        Counter(
            "served" if each.status == 200 else json.loads(each.document)["type"]
            for each in answers
        )
    )


async def hang(plan: dict[str, Any]) -> None:
    """A call that stays between its funds and its node."""
    from marketplace.gateway import inference, pipeline
    from tests.marketplace.gateway.money import request_of

    async def never(_: Any) -> None:
        say("held")
        await asyncio.sleep(600)

    vars(pipeline)["STAGES"] = tuple(
        never if each is inference.infer else each for each in pipeline.STAGES
    )
    await pipeline.call(request_of(plan["name"], plan["token"]))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inframind.settings")
    main()
