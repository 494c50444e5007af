"""neuroprompt for ComfyUI: where ComfyUI finds the nodes."""

from .nodes import Neuroprompt


def comfy_entrypoint() -> Neuroprompt:
    return Neuroprompt()


__all__ = ["comfy_entrypoint"]
