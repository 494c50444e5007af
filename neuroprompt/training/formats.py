"""How a training asks its policy: as the settings say, the data or the file beside the policy."""

from dataclasses import dataclass
from typing import Any

from neuroprompt.formats import PromptFormat


@dataclass
class FormatArguments:
    """What every training takes.

    Args:
        prompt_format: How the policy is asked, and how its answer is read: ``continue``, ``retell``, a .yaml file, or
            the keys of `neuroprompt.formats.PromptFormat`. By default SFT asks as the data were prepared for, and what
            learns from rewards as the policy was asked before. It is saved beside the policy.

    Raises:
        ValueError: There is no such format.
    """

    prompt_format: dict[str, Any] | str | None = None

    def __post_init__(self):
        PromptFormat.read_settings(self.prompt_format)  # what is wrong comes out before anything is loaded

    @property
    def asked(self) -> PromptFormat | None:
        """The format that was set, if one was."""
        return PromptFormat.read_settings(self.prompt_format)
