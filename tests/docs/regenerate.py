"""Write the parts of docs/ that are made from the code: ``python -m tests.docs.regenerate``."""

from __future__ import annotations

from tests.docs.pages import PAGES, filled

if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text()
        if filled(text) != text:
            page.write_text(filled(text))
            print(page)
