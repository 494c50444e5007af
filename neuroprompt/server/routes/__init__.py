"""Routes, a module for each of what they are about. Each has a `router`, and `ROUTERS` has them all.

A route reaches what it needs through the request: `request.app.state.settings` (`ServeSettings`), `.workers`
(`Workers`), `.metrics` (`Metrics`) and `.checks`, a dict of further parts of `/readyz`: name -> function that says how
it is ("ready", or what is wrong).
"""

from fastapi import APIRouter

from . import a1111, enhance, health, images

ROUTERS: tuple[APIRouter, ...] = (health.router, enhance.router, images.router, a1111.router)
