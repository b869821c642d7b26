"""A written page, read back: its elements, its tables, what it points to."""

from html.parser import HTMLParser

VOID = {"img", "br", "meta", "source", "hr", "wbr"}


class Page(HTMLParser):
    """Elements of a page; reading fails where tags do not close in their order."""

    def __init__(self, path):
        super().__init__()
        self.elements = []  # (name, attributes) in the page's order
        self.tables = []  # rows of texts of cells
        self.titles = []
        self.items = []  # texts of list items
        self._open, self._cell = [], None
        self.path = path
        self.bytes = path.read_bytes()
        self.feed(self.bytes.decode("utf-8"))
        self.close()
        assert self._open == [], "elements that nobody closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = ""
        elif tag == "li":
            self.items.append("")

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self._cell)
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data
        if "li" in self._open:
            self.items[-1] += data
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.titles.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self):
        """Anchors of the page's sections."""
        return [attributes["id"] for name, attributes in self.elements if name == "h2"]

    @property
    def text(self):
        return self.bytes.decode("utf-8")

    def table_with(self, *columns):
        """The first table with these columns, as row name to column to text."""
        for rows in self.tables:
            head = rows[0]
            if set(columns) <= set(head):
                return {row[0]: dict(zip(head[1:], row[1:], strict=False)) for row in rows[1:]}
        raise AssertionError(f"no table has the columns {columns}")
