"""What the site adds to the pages of docs/: generated pages, formulas, pictures, links.

MkDocs calls the functions whose names begin with ``on_``. Nothing is written into docs/.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docs import api, formulas, gallery  # noqa: E402

PAGES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
"""Pages of the site that stand in the root of the repository, as readers of the code expect."""
COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
FENCE = re.compile(r"^```.*?^```[ ]*$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(((?:\.\./)+)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages of the interface into the navigation."""
    for item in config.nav or []:
        if isinstance(item, dict) and item.get("API"):
            item["API"] = [{title: f"api/{name}.md"} for name, title in api.TITLES.items()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what stands outside of docs/ or is made for the site."""
    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_home_links(text)))
    for name in linked_files():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for name, text in api.pages().items():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    with tempfile.TemporaryDirectory() as folder:
        for path in gallery.draw(Path(folder)):
            name = f"gallery/{path.name}"
            files.append(File.generated(config, name, content=path.read_bytes()))
    return files


def linked_files() -> list[str]:
    """Files outside of docs/, no pages, that its pages link to, such as results of benchmarks."""
    docs = ROOT / "docs"
    found: set[str] = set()
    for page in docs.rglob("*.md"):
        for up, target, _ in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / up / target).resolve()
            if path.is_file() and path.suffix != ".md" and not path.is_relative_to(docs):
                found.add(path.relative_to(ROOT).as_posix())
    return sorted(found)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leave comments out, and turn formulas into MathML, which browsers draw by themselves."""
    if page.file.src_uri.startswith("api/"):
        return markdown
    text = COMMENT.sub("", markdown)
    text = LINK.sub(lambda m: _inside(page, m), text)
    text = formulas.with_blocks(text)
    parts: list[str] = []
    at = 0
    for fence in FENCE.finditer(text):  # a formula in a block of code is code
        parts += [formulas.with_formulas(text[at : fence.start()]), fence.group()]
        at = fence.end()
    return "".join([*parts, formulas.with_formulas(text[at:])])


def on_post_page(output: str, **_: Any) -> str:
    """Give the theme's search a name, which readers of screens say when it opens."""
    return output.replace('role="dialog">', 'role="dialog" aria-label="Search">', 1)


def _inside(page: Page, link: re.Match[str]) -> str:
    """A link out of docs/ leads to the copy in the site."""
    up, target, anchor = link.group(1), link.group(2), link.group(3) or ""
    depth = page.file.src_uri.count("/")
    if up.count("../") <= depth:  # to another page of docs/
        return link.group()
    moved = {source: name for name, source in PAGES.items()}
    return f"]({'../' * depth}{moved.get(target, target)}{anchor})"


def _home_links(text: str) -> str:
    """Links of a page from the root of the repository, as seen from docs/."""
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", text)
    return re.sub(
        r"\]\((CHANGELOG|CONTRIBUTING|SECURITY)\.md\)",
        lambda m: f"]({m.group(1).lower()}.md)",
        text,
    )
