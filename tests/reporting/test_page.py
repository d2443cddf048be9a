"""The page and the Markdown: whole, self-contained, escaped, and saying the same as the JSON."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page, check_page, numbers, numbers_in
from written_runs import ALONE, write_run, write_solve

from mgd_ssl.reporting import group_runs, read_runs, summarize
from mgd_ssl.reporting.charts import Bar, bar_chart
from mgd_ssl.reporting.document import render
from mgd_ssl.reporting.features import FeatureMap, Retrieval, cluster, principal
from mgd_ssl.reporting.pictures import feature_picture, retrieval_picture, vote_curves

NASTY = '<script>alert("1")</script> & | `a` *b* $x_1$ _'


def written(tmp_path: Path, title: str = "Title") -> tuple[dict[str, Any], str, str]:
    """The JSON's content, the page and the Markdown of two students and their baseline."""
    students = [write_run(tmp_path / f"mgd-{s}", 61.37 + s, s) for s in (0, 1)]
    write_solve(students[0], 1, [[0.5, 1.0], [2.0, 3.25]], [[1], [0]])
    write_solve(students[0], 2, [[0.5, 1.0], [2.0, 3.25]], [[0], [1]])
    alone = write_run(tmp_path / "moco", 50.0, **ALONE)
    knn = [{"k": 7, "temperature": 0.07, "top1": 61.4444, "top5": 98.1}]
    result = {"protocol": "kNN", "checkpoint": "last.pt", "val_images": 123, "knn": knn}
    (students[1] / "last.pt.knn.json").write_text(json.dumps({**result, "versions": {"a": "1"}}))
    groups = group_runs(read_runs(students, [alone]))
    summary = summarize(title, groups)
    return summary, *render(summary, groups)[:2]


def test_the_page_is_whole_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    summary, page, _ = written(tmp_path)
    parsed = check_page(page)
    words = "".join(parsed.words)
    assert summary["verdict"][0]["sentence"] in words
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page
    # bars of kNN in training and by the evaluator; loss, accuracy, CKA; accuracy relative to the
    # teacher, two groups' loss terms; total cost, one stage's heat map
    assert parsed.tags.count("svg") == parsed.tags.count("h3") == 10
    assert {f"#{name}" for name in parsed.values("aria-labeledby")} <= {*parsed.values("href")}
    assert parsed.values("lang") == ["en"]


def test_every_number_of_the_json_is_in_markdown_and_page(tmp_path: Path) -> None:
    summary, page, markdown = written(tmp_path)
    known = {*numbers(json.loads(json.dumps(summary)))}
    assert {61.87, 0.71, 50.0, 61.44, 123.0, 0.07} <= known  # 61.37 and 62.37; √½
    words = " ".join(Page(page).words)
    assert known <= numbers_in(markdown)
    assert known <= numbers_in(words)


def test_what_comes_from_files_is_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "_<b>&amp;$x$", method=NASTY, data="</code><img src=x>")
    groups = group_runs(read_runs([run, write_run(tmp_path / "other")]))
    summary = summarize(NASTY, groups)
    page, markdown, _ = render(summary, groups)
    parsed = check_page(page)
    assert "b" not in parsed.tags and "img" not in parsed.tags
    assert NASTY in parsed.words and "</code><img src=x>" in parsed.words
    assert not re.search(
        r"(?<!\\)<(script|img|b>)", markdown.replace(summary["runs"][0]["reproduce"], "")
    )
    rows = [line for line in markdown.splitlines() if line.startswith("| method")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 4


HOSTILE = (
    NASTY,
    "</title></style></svg></text><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "' onload='alert(1)",
    "[a](javascript:alert(1)) ![b](https://evil.example/b.png) <https://evil.example>",
    "https://evil.example www.evil.example me@evil.example @everyone",
    "]]> --> <!-- {{7*7}} ${jndi:ldap://evil.example} %s %n",
    "line\n# heading\n```\n- item\x1b[31m\u202egnp.exe\x00\ud800",
)


def hostile_run(path: Path, text: str) -> Path:
    """A run whose every text is one that would do something."""
    run = write_run(path, method=text, data=text, network={"arch": text, "width": text})
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {f"val_{text}": 1.0, f"health/{text}": 2.0, f"train_loss/{text}": 3.0}
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = {
        "protocol": f"linear {text}",
        "checkpoint": str(run / f"{text.replace('/', '')}.pt") if "\0" not in text else "last.pt",
        "size": text,
        "top1": 50.0,
        "versions": {text: text},
        "warnings": [text],
    }
    (run / "r.json").write_text(json.dumps(result))
    (run / "matching").mkdir()
    cost, stage = np.eye(2), re.sub(r"[\x00\ud800]", "", text)
    arrays = {f"{stage}/cost": cost, f"{stage}/assignment": np.array([[0], [1]])}
    np.savez(run / "matching" / "epoch_0001.npz", **arrays)
    return run


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_runs_files_does_anything(tmp_path: Path, text: str) -> None:
    run = hostile_run(tmp_path / "run", text)
    groups = group_runs(read_runs([run]))
    summary = summarize(text, groups)
    page, markdown, _ = render(summary, groups, [("Features", [text])])
    assert page.encode() and not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", page + markdown)
    parsed = Page(page)
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "h1", "div", "p", "nav"}
    allowed |= {"h3"}
    allowed |= {"ul", "li", "a", "main", "section", "h2", "table", "caption", "thead", "tbody"}
    allowed |= {"tr", "th", "td", "details", "summary", "figure", "figcaption", "pre", "code"}
    allowed |= {"footer", "svg", "g", "defs", "path", "text", "use", "rect", "clippath", "image"}
    assert {*parsed.tags} <= allowed
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert all(ref.startswith(("#", "data:image/png")) for ref in parsed.values("href"))
    assert "src" not in dict(parsed.attributes)
    prose = markdown.replace(summary["runs"][0]["reproduce"], "")
    for mark in (r"<\w", r"\]\(", r"!\[", r"https?:", r"www\.", r"\w@", r"\$\{", r"`a"):
        assert not re.search(r"(?<!\\)" + mark, prose), mark
    headings = [line.split()[0] for line in prose.splitlines() if line.startswith("#")]
    assert headings.count("#") == 1 and headings.count("##") == parsed.tags.count("h2") == 6
    assert headings.count("###") == page.count("<details") - page.count('<details class="numbers"')
    json.dumps(summary, allow_nan=False)


def test_settings_are_what_the_run_used(tmp_path: Path) -> None:
    found = {"epochs": 2, "lr": 0.0, "weight_decay": None}
    run = write_run(tmp_path / "run", optim=found, device={"precision": "bf16", "threads": 2})
    named = {"epochs": 2, "lr": 0.5, "weight_decay": 0.0}
    other = write_run(tmp_path / "other", optim=named)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 0, "epoch": 0.0, "found/lr": 0.016}\n')
    shown = summarize("t", group_runs(read_runs([other, run])))["settings"]["differ"]
    assert {k: {*map(str, v)} for k, v in shown.items()} == {
        "optim.lr": {"0.5", "0.016 (found)"},
        "optim.weight_decay": {"0.0", "found"},
        "precision": {"32", "bf16"},
    }


def test_curves_over_k_give_the_number_of_images(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", None)
    knn = [{"k": k, "temperature": 0.1, "top1": 60.0} for k in (1, 20)]
    for images in (5, 24):
        result = {"protocol": "kNN", "checkpoint": "last.pt", "val_images": images, "knn": knn}
        (run / f"{images}.json").write_text(json.dumps(result))
    (group,) = summarize("t", group_runs(read_runs([run])))["groups"]
    captions = [picture.caption for picture in vote_curves([group])]
    assert sorted(captions) == ["24 val images", "5 val images"]


@pytest.mark.parametrize(("mean", "beside"), [(79.0, 80.0), (50.0, 50.0), (100.0, 100.0)])
def test_a_bars_value_stands_at_its_end_beside_the_teachers_line(
    mean: float, beside: float
) -> None:
    (axes,) = bar_chart([Bar("a", mean, None, 0)], 80.0).axes
    (value,) = (text for text in axes.texts if text.get_text() == f"{mean:.1f}")
    assert beside < value.get_position()[0] < beside + 2
    track, bar = (patch.get_width() for patch in axes.patches)
    assert (track, bar) == (100, mean)


def test_a_dark_page_has_colors_of_its_own(tmp_path: Path) -> None:
    page = written(tmp_path)[1]
    assert "stroke: var(--color-0, #0072b2)" in page
    assert "--color-0: #" in page.partition("(prefers-color-scheme: dark)")[2]


def test_missing_parts_are_said_to_be_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", None, **ALONE)
    metrics = run / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    bare = [{k: v for k, v in row.items() if not k.startswith("health")} for row in rows]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in bare[:1]))
    groups = group_runs(read_runs([run]))
    page, markdown, _ = render(summarize("Title", groups), groups)
    for said in (
        "Not known: no run was distilled from a teacher.",
        "No validation metric was measured in training: run.",
        "No accuracy was measured by knn\\_eval.py or linear\\_eval.py",
        "Neither an accuracy nor an agreement with a teacher was measured.",
        "so no percentage of the teacher can be given",
        "Health was not measured in training: run.",
        "No matching was solved in: run.",
        "| 1 of 2 | in progress or stopped |",
    ):
        assert said in markdown
    check_page(page)


def test_principal_directions_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(50, 4)) * [5, 1, 3, 0.5] + 7).astype(np.float32)
    points, share = principal(features)
    values = np.linalg.eigvalsh(np.cov(features.astype(np.float64).T))[::-1]
    assert np.allclose(points.var(axis=0, ddof=1), values[:2])
    assert np.isclose(share, 100 * values[:2].sum() / values.sum())
    assert principal(np.ones((3, 4), np.float32))[1] == 0
    assert principal(np.ones((1, 1), np.float32))[0].shape == (1, 2)


def test_clusters_part_what_lies_apart() -> None:
    centers = np.eye(10, dtype=np.float32)[np.arange(40) % 10] * 100
    noise = np.random.default_rng(0).normal(size=centers.shape).astype(np.float32)
    found = cluster(centers + noise)
    assert len(found) == 40 and set(found) == {*range(max(found) + 1)}
    assert all(found[i] == found[i % 10] for i in range(40))


def test_a_map_and_a_photograph_tell_what_they_show() -> None:
    found = FeatureMap(np.zeros((3, 2)), [0, 1, 1], ["_a", "b<"], "class", "PCA", 61.25)
    drawn = feature_picture("run", found)
    assert "PCA of the features of 3 images, by class; 61.2% of the variance" in drawn.caption
    assert "b&lt;" in drawn.markup and 'role="img"' in drawn.markup
    photograph = retrieval_picture("<run>", Retrieval(b"\x89PNG", True))
    bare = retrieval_picture("<run>", Retrieval(b"\x89PNG", False))
    assert "in green" in photograph.caption and "in green" not in bare.caption + bare.alt
    assert photograph.markup.startswith('<img alt="&lt;run&gt;: each row is a query')
