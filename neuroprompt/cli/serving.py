"""`neuroprompt serve`: the rewriter and what stands behind it, over HTTP."""

from neuroprompt.cli.app import command
from neuroprompt.cli.options import find
from neuroprompt.server.settings import ServeSettings


@command(
    "neuroprompt serve",
    "neuroprompt serve --model runs/mine --workers 2 --generator none --rewards none",
    "NEUROPROMPT_API_KEY=… neuroprompt serve --host 0.0.0.0 --rate-limit 60",
    'curl -s http://127.0.0.1:8765/v1/enhance --json \'{"prompts": "boy on a horse"}\'',
)
def serve(*, settings: ServeSettings) -> None:
    """Answer over HTTP: rewrites, scores and pictures, and how the server is.

    An option can be given in the environment, too: --max-prompts is NEUROPROMPT_MAX_PROMPTS. SIGTERM ends it when all
    that was asked is answered.
    """
    try:
        from neuroprompt.server.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("neuroprompt"):
            raise
        raise ValueError(f"{error.name} is not installed: pip install 'neuroprompt[serve]'") from None
    from neuroprompt.server.generators import is_remote

    if settings.fallback == "none":  # else it is answered without a policy, and the policy is tried again
        find(settings.model, "policy")
    if settings.generator != "none" and not is_remote(settings):
        find(settings.generator, "stable-diffusion")
    run(settings)
