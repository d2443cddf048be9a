"""Draw docs/images/results.svg from the tables of docs/results.md.

python docs/tools/results_figure.py
"""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1]
SECTION = "Teachers and students of other kinds, on photographs"
WIDTH, TOP, ROW, LEFT, SCALE = 760, 84, 66, 272, 4.6  # pixels; SCALE of a percentage point
FORMS = {"linear regression": "plain", "`mgd-plus`": "match"}  # of the table -> class of the bar
STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de } text { fill: #1f2328; font: 13px sans-serif }
  .small { font-size: 11px; fill: #59636e } .head { font-size: 15px; font-weight: 600 }
  .value { fill: #ffffff }
  .plain { fill: #6b7684 } .match { fill: #3f51b5 } .line { stroke: #1f2328 }
  .teacher { stroke: #c2571a; stroke-dasharray: 4 3 } .word { fill: #c2571a }
  @media (prefers-color-scheme: dark) {
    .card { fill: #161b22; stroke: #30363d } text { fill: #e6edf3 } .small { fill: #9198a1 }
    .plain { fill: #6b7684 } .match { fill: #5c6bc0 } .line { stroke: #e6edf3 }
    .teacher { stroke: #f0a06a } .word { fill: #f0a06a }
  }
"""


@dataclass(frozen=True)
class Bar:
    """A student's kNN accuracy, in percent.

    Attributes:
        teacher: as the table calls it.
        student: as the table calls it.
        form: a key of `FORMS`.
        mean: over the seeds.
        spread: standard deviation over the seeds.
    """

    teacher: str
    student: str
    form: str
    mean: float
    spread: float


def tables_of(section: str, text: str | None = None) -> list[list[list[str]]]:
    """The cells of the rows of each table of a section of results.md, without its head.

    Raises:
        ValueError: there is no such section or no table in it.
    """
    text = (DOCS / "results.md").read_text() if text is None else text
    _, found, rest = text.partition(f"\n## {section}\n")
    tables = re.findall(r"(?:^\|.*\n)+", rest.partition("\n## ")[0], re.MULTILINE)
    if not found or not tables:
        raise ValueError(f"results.md: no table in a section {section!r}; name it here as there")
    return [[_cells(row) for row in table.splitlines()[2:]] for table in tables]


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def read() -> tuple[dict[str, float], list[Bar]]:
    """Accuracy of each teacher, and the students, in the order of the table."""
    teachers, bars = dict[str, float](), list[Bar]()
    for teacher, student, form, knn, _ in tables_of(SECTION)[0]:
        kind = form if form in FORMS else "`mgd-plus`" if "default" in form else ""
        mean, _, spread = knn.strip("* ").partition(" ± ")
        if student.endswith("teacher"):
            teachers["ViT" if student.startswith("ViT") else "Lite0"] = float(mean)
        elif kind:
            bars.append(Bar(teacher, student, kind, float(mean), float(spread)))
    return teachers, bars


def draw(teachers: dict[str, float], bars: list[Bar]) -> str:
    """The figure: a pair of bars for each teacher and student, and a line for the teacher."""
    pairs = list(dict.fromkeys((bar.teacher, bar.student) for bar in bars))
    height = TOP + ROW * len(pairs) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-label="kNN accuracy of students with and without the matching">',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        '<text class="head" x="20" y="30">kNN top-1 in percent, photographs</text>',
        *_legend(),
    ]
    for place, pair in enumerate(pairs):
        own = [bar for bar in bars if (bar.teacher, bar.student) == pair]
        parts += _pair(TOP + ROW * place, pair, own, teachers[pair[0]])
    note = (
        "Imagenette seen at 64 pixels; mean ± standard deviation of three seeds. Source:"
        " docs/results.md"
    )
    parts.append(f'<text class="small" x="20" y="{height - 14}">{note}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _legend() -> list[str]:
    words = (("plain", 20, "regression of the pooled features"), ("match", 270, "mgd-plus"))
    return [
        part
        for kind, x, word in words
        for part in (
            f'<rect class="{kind}" x="{x}" y="46" width="12" height="12"/>',
            f'<text x="{x + 18}" y="57">{word}</text>',
        )
    ] + [
        '<path class="teacher" d="M380 52h22"/>',
        '<text class="word" x="408" y="57">teacher</text>',
    ]


def _pair(y: int, pair: tuple[str, str], bars: list[Bar], teacher: float) -> list[str]:
    names = [f'<text x="20" y="{y + 22}">{re.split(" of | at ", pair[1])[0]}</text>']
    width = pair[1].partition(" of ")[2]
    what = f"of {width}, " if width else ""
    from_teacher = {"Lite0": "EfficientNet-Lite0", "ViT": "ViT-Ti/16"}[pair[0]]
    about = f"{what}from {from_teacher}"
    names.append(f'<text class="small" x="20" y="{y + 38}">{about}</text>')
    parts = [part for place, bar in enumerate(bars) for part in _bar(y + 6 + 20 * place, bar)]
    x = LEFT + SCALE * teacher
    end = f'<text class="word small" x="{x + 5:.1f}" y="{y + 28}">{teacher:.1f}</text>'
    return [*names, *parts, f'<path class="teacher" d="M{x:.1f} {y + 2}v44"/>', end]


def _bar(y: int, bar: Bar) -> list[str]:
    end, spread = LEFT + SCALE * bar.mean, SCALE * bar.spread
    middle = y + 9
    return [
        f'<rect class="{FORMS[bar.form]}" x="{LEFT}" y="{y}" width="{SCALE * bar.mean:.1f}"'
        ' height="18"/>',
        f'<path class="line" d="M{end - spread:.1f} {middle}h{2 * spread:.1f}"/>',
        f'<text class="value" x="{LEFT + 8}" y="{y + 14}">{bar.mean:.1f} ± {bar.spread:.1f}</text>',
    ]


if __name__ == "__main__":
    path = DOCS / "images" / "results.svg"
    path.write_text(draw(*read()))
    print(f"written: {path}")
