"""--help: short, whole lines, and defaults that are those of the settings."""

import re

import pytest

from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.settings.cache import CacheConfig
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.config_file import leaves
from mgd_ssl.settings.doctor import DoctorConfig
from mgd_ssl.settings.duplicates import DuplicatesConfig
from mgd_ssl.settings.embed import EmbedConfig
from mgd_ssl.settings.evaluation import KnnConfig, LinearEvalConfig
from mgd_ssl.settings.export import ExportConfig
from mgd_ssl.settings.pack import PackConfig
from mgd_ssl.settings.parsing import parse
from mgd_ssl.settings.pretrain import PretrainConfig
from mgd_ssl.settings.report import ReportConfig
from mgd_ssl.settings.settings import Settings

COMMANDS = {
    "pretrain.py": PretrainConfig,
    "mgd-ssl classify": ClassifyConfig,
    "mgd-ssl detect": DetectConfig,
    "mgd-ssl cache": CacheConfig,
    "knn_eval.py": KnnConfig,
    "linear_eval.py": LinearEvalConfig,
    "mgd-ssl report": ReportConfig,
    "mgd-ssl pack": PackConfig,
    "mgd-ssl duplicates": DuplicatesConfig,
    "mgd-ssl export": ExportConfig,
    "mgd-ssl embed": EmbedConfig,
    "mgd-ssl doctor": DoctorConfig,
}
DEFAULT = re.compile(r"^(?:-\w, )?(--[\w-]+).*?\(default: (.*?)\)$")


def helped(
    capsys: pytest.CaptureFixture[str], config: type[Settings], prog: str, *words: str
) -> str:
    with pytest.raises(SystemExit) as ending:
        parse(config, prog, words)
    assert ending.value.code == 0
    return capsys.readouterr().out


def defaults(text: str) -> list[str]:
    """The defaults that a help shows, as words of a command line."""
    options = re.split(r"\n  (?=\S)", text.split("\n\nexample:")[0])
    found = (DEFAULT.match(" ".join(option.split())) for option in options)
    return [word for match in found if match for word in [match[1], *match[2].split()]]


@pytest.mark.parametrize(("prog", "config"), COMMANDS.items())
@pytest.mark.parametrize("columns", [80, 20])
def test_the_help_of_every_command_fits_the_screen(
    prog: str,
    config: type[Settings],
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = helped(capsys, config, prog, "-h")
    assert max(map(len, text.splitlines())) <= columns
    if columns == 80:
        assert len(text.splitlines()) < 60
        assert f"usage: {prog}" in text and f"example:\n  {config.EXAMPLE}" in text


@pytest.mark.parametrize(
    ("prog", "words"),
    [
        ("pretrain.py", []),
        ("pretrain.py", ["images", "--method", "simsiam"]),
        ("mgd-ssl classify", []),
        ("mgd-ssl classify", ["images"]),
        ("mgd-ssl detect", ["images"]),
        ("mgd-ssl cache", []),
        ("knn_eval.py", ["last.pt", "--protocol", "dinov2"]),
        ("linear_eval.py", ["last.pt"]),
    ],
)
def test_the_defaults_shown_are_those_of_the_settings(
    prog: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = COMMANDS[prog]
    shown = defaults(helped(capsys, config, prog, *words, "--help"))
    assert len(shown) >= 6
    assert parse(config, prog, [*words, *shown]) == parse(config, prog, words)


def test_the_defaults_of_the_embedded_images_are_named_as_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    note = "defaults are those for the embedded images"
    assert note in helped(capsys, PretrainConfig, "pretrain.py", "--help")
    assert note not in helped(capsys, PretrainConfig, "pretrain.py", "images", "--help")
    assert note not in helped(capsys, KnnConfig, "knn_eval.py", "--help")


def test_all_of_the_help_names_every_option_and_the_defaults_of_a_choice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = helped(capsys, KnnConfig, "knn_eval.py", "--protocol", "dinov2", "--help-all")
    named = {f"--{name.replace('_', '-')}" for name, _ in leaves(KnnConfig.widest())}
    assert named - {"--checkpoint", "--data"} <= set(re.findall(r"--[\w-]+", text))
    assert "(default: 10 20 100 200)" in " ".join(re.sub("[│]", "", text).split())


def test_all_options_of_detect_come_with_those_that_it_never_reads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = " ".join(helped(capsys, DetectConfig, "mgd-ssl detect", "--help-all").split())
    (names,) = re.findall(r"Without effect in this command: ([^.]*)\.", text)
    assert {"--size", "--mean", "--accumulate"} <= {*names.split(", ")}
    with pytest.raises(ValueError, match="which has no effect in detect"):
        parse(DetectConfig, "detect", ["--size", "96"])
