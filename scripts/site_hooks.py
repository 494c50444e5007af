"""A hook of MkDocs (mkdocs.yml): documents that are not in docs/, each at its place, so that links hold."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "*.md",
    "compose.yaml",
    "docs/**/*",
    "integrations/**/*.md",
    "neuroprompt/assets/**/*.md",
    "neuroprompt/assets/**/*.webp",
    "results/*/table.md",
    "space/README.md",
    "training/*/*.md",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The documents, by their paths in the repository, and the theme's own files."""
    for file in files.documentation_pages() + files.media_files():
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern) if path.is_file()):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files
