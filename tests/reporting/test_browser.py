"""The page in a browser: nothing is wider than the screen, and no label leaves its chart."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from written_runs import ALONE, SETTINGS, write_run, write_solve

from mgd_ssl.commands import report

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for found in map(shutil.which, NAMES) if found), None)
WIDTHS = (600, 1000, 1600)
LONG = "a-name-without-a-space-" * 4
# Tables and commands scroll inside a box of their own.
SCRIPT = """
addEventListener("load", () => {
  const found = [];
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, right = frame.clientWidth;
    page.querySelectorAll("details").forEach(fold => fold.open = true);
    found.push([right, page.documentElement.scrollWidth, page.querySelectorAll("svg").length]);
    for (const one of page.querySelectorAll("body *")) {
      const box = one.getBoundingClientRect(), chart = one.closest("svg");
      const edge = one.tagName == "text" ? chart.getBoundingClientRect().right : right;
      if (!one.closest(".scroll, pre") && box.width && (box.right > edge + 1 || box.left < -1))
        found.push([one.outerHTML.slice(0, 300), box.left, box.right, edge]);
    }
  }
  document.body.replaceChildren(JSON.stringify(found));
});
"""


@pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(NAMES)}")
def test_nothing_is_wider_than_the_screen(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"{LONG}{i}", 60.0 + i, optim=SETTINGS["optim"] | {"lr": i / 9})
            for i in range(3)]  # fmt: skip
    runs += [
        write_run(tmp_path / f"moco-{s}", 50.0 + s, s, **ALONE, data=f"/{LONG}") for s in (0, 1)
    ]
    write_solve(runs[0], 1, [[0.5, 1.0], [2.0, 3.25]], [[1], [0]])
    write_solve(runs[0], 2, [[0.5, 1.0], [2.0, 3.25]], [[0], [1]])
    knn = [{"k": k, "temperature": 0.1, "top1": 50.0 + k} for k in (1, 5, 20)]
    result = {"protocol": "kNN, moco", "checkpoint": "last.pt", "knn": knn, "warnings": [LONG]}
    (runs[1] / "last.pt.knn.json").write_text(json.dumps(result))
    page = tmp_path / "page.html"
    assert report.main([*map(str, runs), "--out", str(page), "--title", LONG]) == 0
    content = html.escape(page.read_text())
    frames = (f'<iframe style="border:0" width="{w}" srcdoc="{content}"></iframe>' for w in WIDTHS)
    harness = tmp_path / "harness.html"
    harness.write_text(f"<meta charset=utf-8><body>{''.join(frames)}<script>{SCRIPT}</script>")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--window-size=1700,1000", f"--user-data-dir={tmp_path / 'profile'}"]
    said = subprocess.run(
        [*command, harness.as_uri()], check=True, capture_output=True, text=True, timeout=90
    ).stdout
    measured = re.search(r"<body>(\[.*\])</body>", said, re.DOTALL)
    assert measured, said[-300:]
    found = json.loads(html.unescape(measured[1]))
    assert found[len(WIDTHS) :] == []
    charts = page.read_text().count("<svg ")
    assert [(width, count) for width, _, count in found] == [(width, charts) for width in WIDTHS]
    assert all(page_width <= width for width, page_width, _ in found)
