"""Reads views of a report back: what a browser, a spreadsheet or a reader would find in them."""

import base64
import csv
import html.parser
import io
import re

VOID = {"meta", "br", "img", "input", "hr", "link", "rect", "path", "line", "circle"}


class Page(html.parser.HTMLParser):
    """A page's elements with their attributes, and its tables by the ends of their ids (``t-NAME``): headings, rows."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.tables, self.texts = [], {}, {}
        self._table = self._cell = None
        self._tag = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.elements.append((tag, found))
        self._tag = tag
        if found.get("aria-labelledby", "").startswith("t-"):
            self._table = self.tables.setdefault(found["aria-labelledby"][2:], [])
        if tag == "tr" and self._table is not None:
            self._table.append([])
        if tag in ("th", "td") and self._table is not None:
            self._table[-1].append("")
            self._cell = True
        elif tag != "span":
            self._cell = None

    def handle_data(self, data):
        self.texts[self._tag] = self.texts.get(self._tag, "") + data
        if self._cell:
            self._table[-1][-1] += data

    def handle_endtag(self, tag):
        if tag in ("thead", "tbody", "table"):
            self._cell = None

    def rows(self, name):
        """The headings and the rows of a table; no more blanks than people see."""
        return [[cell.rstrip("\n") for cell in row] for row in self.tables[name]]

    def links(self):
        """What the page's downloads hold, by the names that they get."""
        return {
            found["download"]: base64.b64decode(found["href"].partition(";base64,")[2], validate=True)
            for tag, found in self.elements
            if tag == "a" and "download" in found
        }


def of_csv(text):
    """Its rows, the keys first; None is an empty field."""
    return list(csv.reader(io.StringIO(text, newline="")))


def lines_of(text, title):
    """The lines of a terminal's table, its headings first, from the title on to the first blank line."""
    found = re.search(rf"^{re.escape(title)}\n((?:.+\n)+)", text, re.MULTILINE)
    assert found, f"no table {title!r}"
    return found[1].splitlines()
