"""Routes, a module for each of what they are about. Each has a `router`, and `ROUTERS` has them all; `PROBES` has those
that want no key, and `REWARDS` those of a server that does nothing but judge.

A route reaches what it needs through the request: `request.app.state.settings` (`ServeSettings`), `.workers`
(`Workers`), `.metrics` (`Metrics`) and `.votes` (`Votes`, or None).
"""

from fastapi import APIRouter

from . import a1111, enhance, health, images, page, rewards, votes

PROBES = health.probes
REWARDS: tuple[APIRouter, ...] = (health.figures, rewards.router)
ROUTERS: tuple[APIRouter, ...] = (
    *(health.figures, health.router, enhance.router, rewards.router),
    *(images.router, votes.router, a1111.router, page.router),
)
