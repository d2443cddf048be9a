"""What every page promises, and the numbers that it says."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Checks that every tag is closed in order; keeps ids, references, and text by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def check_page(text: str) -> Page:
    """What every page promises."""
    page = Page(text)
    bare = re.sub(r"data:image/png;base64,[\w+/=\s]+", "", text)
    policy = """content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">"""
    assert bare.count(policy) == 1
    bare = bare.replace(policy, "")
    assert not re.search(r"https?:|//\w|@import|data:", bare)
    assert not {"script", "link", "iframe", "object"} & {*page.tags}
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    inside = [*page.values("href"), *re.findall(r"url\(([^)]*)\)", text)]
    assert all(ref[1:] in ids for ref in inside if not ref.startswith("data:image/png;base64,"))
    assert page.tags.count("style") <= 1 + page.tags.count("svg")
    pictures = page.tags.count("svg") + page.tags.count("img")
    assert len([v for k, v in page.attributes if k in ("alt", "aria-label") and v]) >= pictures
    assert page.tags.count("h1") == page.tags.count("main") == page.tags.count("title") == 1
    return page


def numbers(value: Any) -> Iterator[float]:
    """Every number in plain values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def numbers_in(text: str) -> set[float]:
    return {float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?", text)}
