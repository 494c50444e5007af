from .config import (
    GeneratorConfig,
    RemoteConfig,
    as_its_card_says,
    config_of,
    read_generator,
    read_setting,
    read_urls,
)
from .encoder import PromptEncoder
from .generator import Drawing, ImageGenerator
from .pipeline import PipelineGenerator, denoiser, drawing_dtype
from .remote.generator import RemoteGenerator

__all__ = [
    "Drawing",
    "GeneratorConfig",
    "ImageGenerator",
    "PipelineGenerator",
    "PromptEncoder",
    "RemoteConfig",
    "RemoteGenerator",
    "as_its_card_says",
    "config_of",
    "denoiser",
    "drawing_dtype",
    "read_generator",
    "read_setting",
    "read_urls",
]
