"""A page that needs nothing else: its frame, and what reports have in common."""

import html
from collections.abc import Mapping

from neuroprompt.pages.tables import Table
from neuroprompt.pages.web import PALETTE


def how_drawn(name: str, config: Mapping, **_) -> str:
    """A generator and the settings that matter most, as a line; of guidance, what there is."""
    facts = [name, f"{config['num_inference_steps']} steps"]
    for setting, called in (("guidance_scale", "guidance"), ("true_cfg_scale", "true CFG")):
        if (scale := config.get(setting)) is not None:
            facts.append(f"{called} {scale:g}")
    return ", ".join(facts)


def html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    rows = ""
    for name, *cells in table.rows:
        values = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        rows += f'<tr><th scope="row">{html.escape(name)}</th>{values}</tr>'
    return (
        f"<section><h2>{html.escape(table.title)}</h2><p>{html.escape(table.note)}</p>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def file_size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3))} kB"


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{facts}</p>
{body}
</main>
</body>
</html>
"""


STYLE = (
    PALETTE
    + """\
main { max-width: 84rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 2rem) 4rem; }
h1, h2, h3 { margin: 0 0 .5rem; color: var(--ink); line-height: 1.2; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; } h3 { margin-top: 1.4rem; font-size: 1rem; }
p { margin: 0 0 .8rem; max-width: 60rem; overflow-wrap: anywhere; }
section { margin-top: 1.6rem; padding-top: 1.2rem; border-top: 1px solid var(--rule); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { color: var(--ink); } thead th { color: var(--quiet); font-weight: 400; }
th:first-child { position: sticky; left: 0; background: var(--paper); text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1.6rem 2.4rem;
  margin-bottom: 1.4rem; align-items: start; }
svg { display: block; width: 100%; height: auto; font-family: system-ui, sans-serif; }
img { display: block; max-width: 100%; height: auto; border: 1px solid var(--rule); }
details { margin-top: .5rem; } summary { cursor: pointer; color: var(--quiet); }
dl { margin: .5rem 0; } dt { margin-top: .6rem; color: var(--ink); } dd { margin: .1rem 0 .1rem 1.2rem; }
dt, dd { overflow-wrap: anywhere; }
a { color: var(--line); }
"""
)
