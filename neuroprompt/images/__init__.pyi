from .config import GeneratorConfig, as_its_card_says, read_generator, read_setting
from .generator import Drawing, ImageGenerator
from .pipeline import PipelineGenerator, denoiser, drawing_dtype

__all__ = [
    "Drawing",
    "GeneratorConfig",
    "ImageGenerator",
    "PipelineGenerator",
    "as_its_card_says",
    "denoiser",
    "drawing_dtype",
    "read_generator",
    "read_setting",
]
