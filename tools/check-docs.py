#!/usr/bin/env python3
"""check-docs.py

Checks the Markdown files that Git tracks: each relative link leads to a tracked file, and each anchor to a heading of its
page, by GitHub's rules. Checks also that the pages in docs/benchmarks have the text of their templates in benches/, and that
the tests that SECURITY.md names exist. Uses no network: links with a scheme are not checked.
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin

BENCHMARKS = Path("docs/benchmarks")
# Written as pages of BENCHMARKS, so that their links are checked there.
TEMPLATES = Path("benches")
# Names tests as `FILE.rs::FUNCTION` or `FILE.rs`. Files without src/ are in TESTS.
SECURITY = Path("SECURITY.md")
TESTS = Path("tests/it")
NAMED_TEST = re.compile(r"`([\w/]+\.rs)(?:::(\w+))?`")
TEST = r"#\[(?:tokio::)?test(?:\([^\]]*\))?\]\s+(?:#\[[^\]]*\]\s+)*(?:async )?fn %s\("
HTML_LINK = re.compile(r"""<(?:a|img)\b[^>]*?\b(?:href|src)\s*=\s*["']([^"']*)["']""", re.IGNORECASE)
HTML_ANCHOR = re.compile(r"""<[^>]*?\b(?:id|name)\s*=\s*["']([^"']*)["']""", re.IGNORECASE)


def github_slug(title):
    """The anchor of a heading, before a number tells equal ones apart."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


MARKDOWN = (
    MarkdownIt("gfm-like", {"linkify": False})
    .disable("linkify")
    .use(anchors_plugin, max_level=6, slug_func=github_slug)
)


def tracked(*patterns):
    names = subprocess.run(["git", "ls-files", "-z", *patterns], check=True, capture_output=True, text=True).stdout
    return [path for path in map(Path, names.split("\0")) if path.is_file()]


class Page:
    """The anchors of a Markdown file, and its links, each with the line on which its block begins."""

    def __init__(self, path):
        self.anchors = set()
        self.links = []
        for block in MARKDOWN.parse(path.read_text(encoding="utf-8")):
            if block.type == "heading_open":
                self.anchors.add(block.attrGet("id"))
            for token in [block, *(block.children or [])]:
                line = block.map[0] + 1 if block.map else 0
                target = token.attrGet("href") or token.attrGet("src")
                if target:
                    self.links.append((line, str(target)))
                if token.type in ("html_block", "html_inline"):
                    self.links += [(line, target) for target in HTML_LINK.findall(token.content)]
                    self.anchors.update(HTML_ANCHOR.findall(token.content))


def broken_links(paths, files):
    pages = {path: Page(path) for path in paths}
    folders = {folder for file in files for folder in file.parents}
    root = Path.cwd()
    for path, page in pages.items():
        for line, link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = path
            if url.path:
                target = Path(path.parent, unquote(url.path)).resolve()
                if not target.is_relative_to(root):
                    yield f"{path}:{line}: {link} is outside of the repository"
                    continue
                target = target.relative_to(root)
            if target not in files and target not in folders:
                yield f"{path}:{line}: {link}: there is no such file"
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].anchors:
                yield f"{path}:{line}: {link}: {target} has no such heading"


def stale_pages(templates):
    """The pages whose text is not that of their templates. {name} in a template stands for any text without other text of it."""
    for template in templates:
        page = BENCHMARKS / template.name
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        pattern = "(?s:.*?)".join(map(re.escape, re.split(r"\{\w+\}", template.read_text(encoding="utf-8"))))
        if not re.fullmatch(pattern, text):
            yield f"{page} does not have the text of {template}"


def missing_tests(page):
    """The tests that the page names and that do not exist."""
    for line, text in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        for name, function in NAMED_TEST.findall(text):
            file = Path(name) if name.startswith("src/") else TESTS / name
            if not file.is_file():
                yield f"{page}:{line}: {name}: there is no such file"
            elif function and not re.search(TEST % function, file.read_text(encoding="utf-8")):
                yield f"{page}:{line}: {file} has no test {function}"


def main():
    files = set(tracked())
    templates = [path for path in tracked("*.md") if TEMPLATES in path.parents]
    pages = [path for path in tracked("*.md") if TEMPLATES not in path.parents]
    errors = [*broken_links(pages, files), *stale_pages(templates), *missing_tests(SECURITY)]
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
