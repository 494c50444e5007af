"""What the pages that are written here share: their colours, by day and by night, and files that are in the page."""

import base64

PALETTE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #18181b; --text: #3f3f46; --quiet: #71717a; --rule: #e4e4e7;
  --empty: #f4f4f5; --line: #2563eb; --better: #00785a; --worse: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --paper: #18181b; --ink: #fafafa; --text: #d4d4d8; --quiet: #a1a1aa;
  --rule: #3f3f46; --empty: #27272a; --line: #60a5fa; --better: #34d399; --worse: #fb923c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
"""


def data_uri(kind: str, data: bytes) -> str:
    """A file of that media type as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
