"""Events of mkdocs: the home page, the pages of the commands, and links to files beside docs/."""

import posixpath
import re
from pathlib import Path
from typing import Any

from command_pages import FOLDER, command_pages
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Files outside docs/ that pages link to; they are published under the same names.
PUBLISHED = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE"),
    *("examples/*.py", "recipes/*.py", "benchmarks/*.py"),
)
LINK = re.compile(r"(\]\(|\bsrc=\"|\bsrcset=\"|\bhref=\")([^)\"#\s]+)")


def on_config(config: Any) -> Any:
    """List the commands' pages where the navigation names their folder."""
    for section in config.nav:
        for entry in next(iter(section.values())):
            if isinstance(entry, dict) and entry.get("Commands") == FOLDER:
                entry["Commands"] = list(command_pages())
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what is not in docs/: README as the home page, the commands, and published files."""
    for name, text in {"index.md": (ROOT / "README.md").read_text(), **command_pages()}.items():
        files.append(File.generated(config, name, content=text))
    for path in sorted(path for pattern in PUBLISHED for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to files of the repository lead to the same files on the site."""
    source = page.file.src_uri
    outside = source == "index.md" or source in PUBLISHED  # these stand beside docs/
    place = "" if outside else posixpath.join("docs", posixpath.dirname(source))
    return LINK.sub(lambda link: link[1] + _on_site(link[2], place, source), markdown)


def _on_site(link: str, place: str, source: str) -> str:
    """A link of a page as it is on the site, where docs/ is the root."""
    target = posixpath.normpath(posixpath.join(place, link))
    if ":" in link or not (ROOT / target).exists():
        return link  # of another place, or of a page that is generated
    name = target.removeprefix("docs/")
    return posixpath.relpath(name, posixpath.dirname(source) or ".")
