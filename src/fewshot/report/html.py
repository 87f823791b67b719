"""The page: one file that loads nothing, and in which whatever a run calls something is text."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib import resources

from fewshot.report.tables import Cell


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Cell]], words: bool = False) -> str:
    """A table that is sorted by a click on a header.

    Args:
        caption: says what it holds.
        header: of each column.
        rows: of cells.
        words: whether its columns hold words; else all but the first hold numbers.
    """
    kind = ' class="words"' if words else ""
    head = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value:.9g}"'
    text = f"<strong>{escape(cell.text)}</strong>" if cell.bold else escape(cell.text)
    return f"<td{value}>{text}</td>"


def figure(drawing: str, caption: str) -> str:
    """A drawing with what it shows."""
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def grid(parts: Sequence[str]) -> str:
    """Parts side by side, as many as there is room for."""
    return f'<div class="grid">{"".join(parts)}</div>' if parts else ""


def section(title: str, *parts: str) -> str:
    """A part of the page; nothing where it has no content."""
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def paragraph(text: str) -> str:
    """A remark."""
    return f'<p class="soft">{escape(text)}</p>' if text else ""


def preformatted(lines: Sequence[str]) -> str:
    """Lines as they are, as of commands."""
    return "<pre>{}</pre>".format(escape("\n".join(lines)))


def item(shown: str, caption: str, picture: bool, wrong: bool = False) -> str:
    """An example: a picture (a data URI) or a sentence, with a caption.

    Args:
        wrong: whether it was taken for another class.
    """
    text = escape(caption)
    inner = f'<img src="{escape(shown)}" alt="{text or "support example"}">' if picture else f"<q>{escape(shown)}</q>"
    kind = ' class="wrong"' if wrong else ""
    return f"<div{kind}>{inner}<span>{text}</span></div>"


def folded(title: str, content: str, unfolded: bool = False) -> str:
    """What is shown by a click."""
    state = " open" if unfolded else ""
    return f"<details{state}><summary>{escape(title)}</summary>{content}</details>"


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """The whole file.

    Its policy forbids the browser to load anything, and to run any script but its own.

    Args:
        title: of the page.
        lead: below it, in plain words.
        sections: made by `section`.
    """
    style, script = (resources.files("fewshot.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style>",
            f"<h1>{escape(title)}</h1>",
            f"<p>{escape(lead)}</p>",
            *filter(None, sections),
            f"<script>{script}</script>",
            "</html>",
            "",
        ]
    )
