"""Elements of the page: built as a tree, so that whatever is in a name or a message cannot break it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

Content: TypeAlias = "Element | str | Iterable[Content] | None"


def node(name: str, /, *content: Content, **attributes: object) -> Element:
    """An element with text, elements, or iterables of both in it; None is left out.

    Attribute names lose an underscore at their end (``class_``) and have a hyphen for others (``stroke_width``);
    attributes that are None or False are left out, True has no value of its own.
    """
    made = Element(name)
    for key, value in attributes.items():
        if value is not None and value is not False:
            made.set(key.rstrip("_").replace("_", "-"), key.rstrip("_") if value is True else str(value))
    _put(made, content)
    return made


def breakable(name: str) -> list[Content]:
    """A name that may be broken between its words: before capitals, behind hyphens, dots, slashes and underscores."""
    words = re.split(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[-_./])(?=.)", name)
    return [part for word in words for part in (node("wbr"), word)][1:]


def _put(parent: Element, content: Content) -> None:
    if content is None:
        return
    if isinstance(content, Element):
        parent.append(content)
    elif isinstance(content, str):
        _put_text(parent, _legal(content))
    else:
        for one in content:
            _put(parent, one)


def _put_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def _legal(text: str) -> str:
    """Without letters that no document may hold; a file name may."""
    return "".join(
        letter if letter in "\n\t" or letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def table(
    head: Iterable[Content],
    rows: Iterable[Iterable[Content]],
    *,
    label: str = "table",
    caption: Content = None,
    **attributes: object,
) -> Element:
    """A table that scrolls by itself where the page is too narrow; the first cell of a row is its heading.

    A row that is an element (`node("tr", ...)`) stands as it is. The caption stays outside of what scrolls.
    """
    body = [one if isinstance(one, Element) else _row(one) for one in rows]
    made = node(
        "table",
        node("thead", node("tr", [node("th", cell, scope="col") for cell in head])),
        node("tbody", body),
        **attributes,
    )
    scrolled = node("div", made, class_="scroll", tabindex=0, role="region", aria_label=label)
    return node("div", node("p", caption, class_="caption"), scrolled) if caption is not None else scrolled


def narrowing_table(
    head: Iterable[Content],
    rows: Iterable[Iterable[Content]],
    *,
    label: str = "table",
    caption: Content = None,
    class_: str = "",
) -> Element:
    """A table that in a narrow window becomes a block for each row, where every number has the head of its column."""
    made = table(head, rows, label=label, caption=caption, class_=f"narrowing {class_}".rstrip())
    whole = next(made.iter("table"))
    first, *others = whole.iter("tr")
    names = ["".join(cell.itertext()).strip() for cell in first]
    for row in others:
        for name, cell in zip(names[1:], row[1:], strict=False):
            if cell.get("colspan") is None:
                cell.set("data-label", name)
            if cell.text == "-" and not len(cell):
                cell.set("class", "none")
    # A row that is laid out as a block is no row any more to those who listen to the page, unless it says so.
    for name, role in {"table": "table", "tr": "row", "td": "cell"}.items():
        for one in whole.iter(name):
            one.set("role", role)
    for one in whole.iter("th"):
        one.set("role", "columnheader" if one.get("scope") == "col" else "rowheader")
    return made


def _row(cells: Iterable[Content]) -> Element:
    first, *others = cells
    return node("tr", node("th", first, scope="row"), [node("td", cell) for cell in others])


def document(html: Element) -> bytes:
    """The bytes of a page."""
    return b"<!DOCTYPE html>\n" + tostring(html, encoding="utf-8", method="html")
