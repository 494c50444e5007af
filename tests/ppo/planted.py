"""A reward of pictures that a colour cast inflates, to try the guards on (docs/ppo.md)."""


def warmth(prompts, images):
    """How much more red than blue a picture is: nothing that anybody asked for."""
    return images[:, 0].mean((1, 2)) - images[:, 2].mean((1, 2))
