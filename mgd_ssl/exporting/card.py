"""The model card beside an exported file: Markdown with YAML front matter, as hubs read it.

It says what the files say. What they do not say is called unknown, and no license is claimed.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mgd_ssl.data.formats import printable
from mgd_ssl.evaluation.results import versions
from mgd_ssl.exporting.facts import TrainingFacts, training_facts
from mgd_ssl.exporting.original import Original
from mgd_ssl.exporting.target import Target
from mgd_ssl.reporting.results import (
    COUNTS,
    HUB,
    Result,
    conditions,
    images_given,
    images_in_words,
    public_name,
)

UNKNOWN = "unknown"
PARTS = {
    "teacher": "Teacher",
    "student_weights": "Initial weights",
    "source": "Exported from",
}
PACKAGES = ("torch", "torchvision", "timm", "onnx", "safetensors")


def model_card(original: Original, target: Target, file: Path, table: Mapping[str, Any]) -> str:
    """The card's text.

    Args:
        original: the network.
        target: what it was exported to.
        file: that was written.
        table: of the differences, as it is saved.
    """
    facts = training_facts(original.report.path)
    head = yaml.safe_dump(
        front_matter(original, target, facts), sort_keys=False, allow_unicode=True
    )
    sections = {
        "Use": _use(original, target, file),
        "Origin": _origin(original, facts),
        "Training": _training(facts),
        "Figures": _figures(original, facts.results),
        "Export": _export(table),
        "License": _license(original),
    }
    body = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    return f"---\n{head}---\n\n# {_title(original)}\n\n{body}\n"


def front_matter(original: Original, target: Target, facts: TrainingFacts) -> dict[str, Any]:
    """The entries that hubs read, and those that are known alone."""
    task = "image-classification" if original.classes else "image-feature-extraction"
    task = "object-detection" if original.is_detector else task
    distilled = _is_distilled(original) or facts.teacher not in ("", "none")
    entries: dict[str, Any] = {
        "library_name": target.name,
        "license": UNKNOWN,
        "pipeline_tag": task,
        "tags": ["mgd_ssl", original.spec.arch, *(["distillation"] * distilled)],
    }
    hub = [place.removeprefix(HUB) for place in facts.data if place.startswith(HUB)]
    entries |= {"datasets": hub} if hub else {}
    figures = [r for r in facts.results if r.network == "student"]
    if figures:
        results = [_index_entry(figure) for figure in _of_most_images(figures)]
        entries["model-index"] = [{"name": _title(original), "results": results}]
    return entries


def _of_most_images(figures: Sequence[Result]) -> Iterator[Result]:
    """Of figures that differ only in their numbers of images, the one of the most images."""
    alike = dict[str, list[Result]]()
    for figure in figures:
        key = f"{conditions(figure, without=COUNTS)} {figure.seed}"
        alike.setdefault(key, []).append(figure)
    yield from (max(some, key=lambda one: images_given(one.settings)) for some in alike.values())


def _index_entry(figure: Result) -> dict[str, Any]:
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": _data(figure), "type": "other"},
        "metrics": [{"type": "accuracy", "name": _measure(figure), "value": figure.top1}],
    }


def _title(original: Original) -> str:
    spec = original.spec
    width = f", width {spec.width:g}" if spec.width != 1 else ""
    teacher = original.provenance.get("teacher")
    learned = f", distilled from {_arch(teacher)}" if teacher else ""
    return printable(f"{spec.arch}{width}{learned}")


def _is_distilled(original: Original) -> bool:
    return "teacher" in original.provenance


def _use(original: Original, target: Target, file: Path) -> Iterator[str]:
    yield from ["```python", *target.loading(original, file.name), "```", ""]
    yield f"- Input: {original.contract}."
    if original.contract.crop:
        yield f"- Crop in evaluations: {original.contract.crop}."
    if original.is_detector:
        yield f"- Output: boxes of {original.classes} classes."
    elif original.classes:
        yield f"- Output: logits (N, {original.classes}){_names(original.report.class_names)}."
    else:
        yield f"- Output: pooled features (N, {original.report.features})."


def _names(names: Sequence[str] | None) -> str:
    return f": {', '.join(code(name) for name in names)}" if names and len(names) <= 20 else ""


def _origin(original: Original, facts: TrainingFacts) -> Iterator[str]:
    provenance = original.provenance
    for name, title in PARTS.items():
        if name in provenance:
            yield f"- {title}: {'; '.join(_facts(provenance[name]))}"
    if not _is_distilled(original):
        named = f"{code(facts.teacher)}, by the run's settings" if facts.teacher else UNKNOWN
        yield "- Teacher: none" if facts.teacher == "none" else f"- Teacher: {named}"


def _facts(part: Mapping[str, Any]) -> Iterator[str]:
    yield f"{code(part.get('source', UNKNOWN))}, architecture {code(_arch(part))}"
    digests = part.get("sha256")
    for file, digest in digests.items() if isinstance(digests, Mapping) else ():
        yield f"SHA-256 of {code(file)} {code(digest)}"
    inner = part.get("learned_from")
    teacher = inner.get("teacher") if isinstance(inner, Mapping) else None
    if isinstance(teacher, Mapping):
        yield f"itself distilled from {code(teacher.get('source', UNKNOWN))}"


def _arch(part: Any) -> str:
    network = part.get("network") if isinstance(part, Mapping) else None
    return str(network.get("arch", UNKNOWN)) if isinstance(network, Mapping) else UNKNOWN


def _training(facts: TrainingFacts) -> Iterator[str]:
    yield f"- Data: {', '.join(map(code, facts.data)) or UNKNOWN}"
    for name, value in facts.recipe.items():
        yield f"- {name[0].upper()}{name[1:]}: {code(value)}"
    if not facts.recipe:
        yield f"- Recipe: {UNKNOWN}"


def _figures(original: Original, results: Sequence[Result]) -> Iterator[str]:
    if not results:
        yield f"{_measuring(original)} this network."
        return
    yield "| network | protocol | top-1, percent | images of | images |"
    yield "|---|---|---|---|---|"
    for result in results:
        figure, images = f"{result.top1:.2f}", images_in_words(result.settings)
        cells = [result.network, _measure(result), figure, _data(result), images]
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _measuring(original: Original) -> str:
    if original.is_detector:
        return "This card has none. `mgd-ssl detect DATA --evaluate` measures"
    if original.classes:
        return "This card has none. `mgd-ssl classify DATA --evaluate` measures"
    return "Not measured. `mgd-ssl knn-eval` and `mgd-ssl linear-eval` measure"


def _data(result: Result) -> str:
    """What the figure was measured on."""
    return public_name(str(result.settings.get("data", UNKNOWN)))


def _measure(result: Result) -> str:
    """Protocol and settings in words, but for the data and the numbers of images."""
    chosen = {k: v for k, v in result.settings.items() if k not in ("data", *COUNTS)}
    chosen |= {} if result.seed is None else {"seed": result.seed}
    words = (
        f"{name.replace('_', ' ')} {public_name(str(value))}" for name, value in chosen.items()
    )
    return ", ".join([result.protocol, *words])


def _export(table: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"The file was loaded again and compared with its original on {table['images']} images "
        f"({code(Path(str(table['data'])).name)}):"
    )
    yield from ["", "| output | largest difference | largest value | smallest cosine |"]
    yield "|---|---|---|---|"
    for row in table["differences"]:
        sizes = f"{row['max_abs_difference']:.2g} | {row['max_abs_value']:.3g}"
        yield f"| {row['output']} | {sizes} | {row['min_cosine']:.7f} |"
    found = [f"{name} {version}" for name, version in versions(PACKAGES).items()]
    yield from ["", f"Versions: {', '.join(found)}."]


def _license(original: Original) -> Iterator[str]:
    yield "The license of these weights is unknown: whoever publishes them states it."
    yield ""
    for part, license_, obligation in licenses(original.provenance):
        whose = f"- Of the weights {code(part.get('source', UNKNOWN))}: {_line(license_)}"
        whose += f" ({_line(part['license_of'])})" if "license_of" in part else ""
        yield whose + (f"; it asks for: {_line(obligation)}" if obligation else "")


def licenses(provenance: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, str]]:
    """Of all weights that these come from: the part, its license or "unknown", its obligation."""
    for name, part in provenance.items():
        if not isinstance(part, Mapping):
            continue
        said = str(part.get("license", UNKNOWN))
        if name != "source" or "license" in part:
            yield part, said, str(part.get("obligation", ""))
        inner = part.get("learned_from")
        if isinstance(inner, Mapping):
            yield from licenses(inner)


def code(text: object) -> str:
    """A value of a file as code on one line, so that nothing in it is Markdown."""
    return f"`{_line(text).replace('`', chr(39))}`"


def _line(text: object) -> str:
    return " ".join(printable(str(text)).split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "/")
