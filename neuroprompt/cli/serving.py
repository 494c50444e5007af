"""`neuroprompt serve`: the rewriter and what stands behind it, over HTTP."""

from neuroprompt.cli.app import command
from neuroprompt.cli.options import find
from neuroprompt.extras import need
from neuroprompt.server.settings import ServeSettings


@command(
    "neuroprompt serve",
    "neuroprompt serve --model runs/mine --workers 2 --generator none --rewards none",
    "neuroprompt serve --model embedded --model Qwen/Qwen3-0.6B --generator none --rewards none",
    "NEUROPROMPT_API_KEY=… neuroprompt serve --host 0.0.0.0 --rate-limit 60",
    'curl -s http://127.0.0.1:8765/v1/enhance --json \'{"prompts": "boy on a horse"}\'',
)
def serve(*, settings: ServeSettings) -> None:
    """Answer over HTTP: rewrites, scores and pictures, and how the server is.

    An option can be given in the environment, too: --max-prompts is NEUROPROMPT_MAX_PROMPTS. SIGTERM ends it when all
    that was asked is answered.
    """
    from neuroprompt.images import read_urls

    draws = settings.generator != "none" and not read_urls(settings.generator)
    need(*["images"] * (draws or settings.rewards != "none"), "serve")
    from neuroprompt.server.app import run

    if settings.fallback == "none":  # else it is answered without a policy, and the policy is tried again
        for model in settings.model:
            find(model, "policy")
    if draws:
        find(settings.generator, "stable-diffusion")
    run(settings)
