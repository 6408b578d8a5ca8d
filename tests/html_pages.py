"""Reads our HTML pages as a parser does."""

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """Elements, attributes and texts of a page; fails on one that is not closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], {}, []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def assert_self_contained(self):
        for _, attributes in self.elements:
            for name in ("src", "href", "srcset", "action", "data"):
                assert attributes.get(name, "#").startswith(("#", "data:"))
        policies = [meta["content"] for meta in self.all("meta") if "http-equiv" in meta]
        assert len(policies) == 1 and policies[0].startswith("default-src 'none'")
        assert "url(" not in "".join(self.texts["style"]) and "@import" not in "".join(self.texts["style"])
