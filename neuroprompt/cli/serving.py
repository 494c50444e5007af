"""`neuroprompt serve`: the rewriter and what stands behind it, over HTTP; `serve-rewards`: rewards alone."""

from neuroprompt.cli.app import command
from neuroprompt.cli.options import find
from neuroprompt.extras import need
from neuroprompt.server.settings import RewardServerSettings, ServeSettings


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


@command(
    "neuroprompt serve-rewards pickscore,hps",
    "neuroprompt serve-rewards my_file.py:my_reward --device cuda:1 --port 8809",
    "NEUROPROMPT_API_KEY=… neuroprompt serve-rewards hps --host 0.0.0.0",
    "neuroprompt score --prompt 'boy on a horse' out.png --rewards http://127.0.0.1:8808/hps",
    extras=["images", "serve"],
)
def serve_rewards(*, settings: RewardServerSettings) -> None:
    """Serve rewards to programs that cannot hold them: for want of memory, or of the packages that they want.

    They name one as http://HOST:PORT/NAME wherever rewards are named, and have the server's key, if it wants one, in
    NEUROPROMPT_REWARDS_API_KEY. An option can be given in the environment, too: --max-body is NEUROPROMPT_MAX_BODY.
    """
    from neuroprompt.rewards import parse_spec
    from neuroprompt.server.app import run

    for part in parse_spec(settings.rewards):
        if part.weight != 1 or part.cap is not None:
            raise ValueError(f"{part.name} has a weight or a cap, which are for whoever asks: leave them out")
    run(settings)
