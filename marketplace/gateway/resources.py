"""What calls share on one event loop: connections, the router, purses, and who writes them down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from django.conf import settings

from inframind.lib import heap
from marketplace.gateway import lane
from marketplace.gateway.hedging import Hedges
from marketplace.gateway.knowledge import Knowledge
from marketplace.gateway.limits import Limiter
from marketplace.gateway.links import Links
from marketplace.gateway.purses import Purses
from marketplace.gateway.recorder import Recorder
from marketplace.mesh import asyncdb
from marketplace.mesh.routing import Router
from marketplace.mesh.sockets import Pool
from marketplace.mesh.streams import Channels


@dataclass(frozen=True)
class Resources:
    nodes: Pool = field(default_factory=Pool)
    router: Router = field(default_factory=Router)
    hedges: Hedges = field(default_factory=Hedges)
    purses: Purses = field(default_factory=Purses)
    recorder: Recorder = field(default_factory=Recorder)
    limiter: Limiter = field(default_factory=lambda: Limiter(settings.REDIS_URL))
    links: Links = field(default_factory=Links)
    knowledge: Knowledge = field(default_factory=Knowledge)
    channels: Channels = field(default_factory=Channels)


_opened: dict[asyncio.AbstractEventLoop, Resources] = {}


async def here() -> Resources:
    """The resources of the running loop, opened on first use."""
    loop = asyncio.get_running_loop()
    found = _opened.get(loop)
    if found is None:
        heap.keep_freed()
        # Nothing awaits before the entry is made: two first calls share one set.
        found = _opened[loop] = Resources()
        found.knowledge.others.append(found.router.forget)
    return found


async def aclose() -> None:
    """Closes what the running loop has opened; what is being written down is, and funds go back."""
    found = _opened.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.knowledge.aclose()
        await found.channels.aclose()
        await found.hedges.aclose()
        await found.router.aclose()
        await found.recorder.aclose()
        await found.limiter.aclose()
        await found.purses.aclose()
        await found.nodes.aclose()
    await lane.aclose()
    await asyncdb.aclose()
