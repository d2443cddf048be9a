"""A report as one HTML page that needs nothing beside it: no script, no font, no address."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mgd_ssl.reporting.blocks import Block, Command, Picture, Section, Table, Words, visible

LONG = 60  # characters of a cell
# Whatever a run's files might smuggle in: nothing is run, and nothing is loaded.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #5b6470;
  --line: #d5dae1; --band: #f3f5f8; --mark: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --paper: #14171b; --soft: #a3adb9; --line: #3a424c; --band: #1f242a;
    --mark: #7db8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.5rem; font-size: 1.25rem; }
a { color: var(--mark); }
.verdict { border-left: .3rem solid var(--mark); background: var(--band); padding: .5rem 1rem; }
.verdict p { margin: .5rem 0; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: .5rem 0; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: normal; }
td { white-space: nowrap; } td.long { white-space: normal; min-width: 18rem; }
thead th { background: var(--band); }
figure { margin: 1.5rem 0; max-width: 36rem; }
figure svg, figure img { width: 100%; height: auto; display: block; }
figure img { background: #fff; }
figcaption, footer { color: var(--soft); font-size: .875rem; }
pre { overflow-x: auto; background: var(--band); padding: .75rem; }
summary { cursor: pointer; color: var(--mark); }
@media print { body { max-width: none; } }
"""


def to_html(summary: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """The whole page; everything but the pictures' markup is escaped."""
    title = escape(summary["title"])
    verdict = "".join(f"<p>{escape(line)}</p>" for line in summary["verdict"])
    links = "".join(f'<li><a href="#{_slug(s.title)}">{escape(s.title)}</a></li>' for s in sections)
    versions = ", ".join(f"{name} {v}" for name, v in summary["versions"].items())
    return visible(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{title}</h1>\n"
        f'<div class="verdict" role="note" aria-label="Verdict">{verdict}</div>\n</header>\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n'
        f"{''.join(_section(s) for s in sections)}</main>\n"
        f"<footer><p>Written with {escape(versions)}.</p></footer>\n</body>\n</html>\n"
    )


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _section(section: Section) -> str:
    slug, blocks = _slug(section.title), "\n".join(_block(b) for b in section.blocks)
    return (
        f'<section aria-labelledby="{slug}">\n<h2 id="{slug}">{escape(section.title)}</h2>\n'
        f"{blocks}\n</section>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Words(text):
            return f"<p>{escape(text)}</p>"
        case Command(line):
            return f"<pre><code>{escape(line)}</code></pre>"
        case Picture(caption, markup):
            return f"<figure>\n{markup}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    """A table that scrolls by itself where the screen is narrow."""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in table.header)
    rows = "\n".join(_row(row) for row in table.rows)
    caption = escape(table.caption)
    text = (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">\n<table>\n'
        f"<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )
    if not table.folded:
        return text
    return f"<details>\n<summary>Numbers: {caption}</summary>\n{text}\n</details>"


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    rest = "".join(f"<td{_long(c)}>{escape(c)}</td>" for c in others)
    return f'<tr><th scope="row">{escape(first)}</th>{rest}</tr>'


def _long(text: str) -> str:
    """Long cells get room, or a narrow screen makes a tall column of them."""
    return ' class="long"' if len(text) > LONG else ""
