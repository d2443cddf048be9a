"""A config file is held to what the command line is held to, and says where it is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mgd_ssl.commands import pretrain
from mgd_ssl.detection.settings import DetectConfig
from mgd_ssl.settings.classify import ClassifyConfig
from mgd_ssl.settings.config_file import saved
from mgd_ssl.settings.options import to_dict
from mgd_ssl.settings.parsing import complete, parse
from mgd_ssl.settings.pretrain import PretrainConfig


def read(path: Path, text: str | bytes, *argv: str) -> PretrainConfig:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return parse(PretrainConfig, "pretrain.py", ["--config", str(path), *argv])


FULL = (
    ["images", "--teacher", "t.pt", "--schedule", "30", "40", "--taps", "a=layer1", "b=layer2"],
    ["--lr", "1e-5", "--weight-decay", "0.1", "--mean", "0.1", "0.30000000000000004", "0.5"],
    ["--out", "2024-01-01", "--no-cos", "--precision", "32", "--ignore", "0"],
)


@pytest.mark.parametrize(
    ("config", "more"),
    [
        (PretrainConfig, ["--mgd-stage-weights", "1", "2.5"]),
        (PretrainConfig, ["--eval-data", "null", "--method", "mgd"]),
        (ClassifyConfig, ["--kd", "--no-exif"]),
    ],
)
def test_settings_come_back_exactly(tmp_path: Path, config: type[Any], more: list[str]) -> None:
    data = ["--mgd-weighing", "mean"] if "--mgd-stage-weights" in more else []
    said = parse(config, "x", [*FULL[0], *FULL[1], *FULL[2], *data, *more])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved(said), sort_keys=False))
    assert parse(config, "x", ["--config", str(tmp_path / "config.yaml")]) == said


def test_a_detectors_settings_come_back_exactly(tmp_path: Path) -> None:
    said = parse(
        DetectConfig, "x", ["coco", "--teacher", "t.pt", "--levels", "c2", "p3", "--ignore"]
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_dict(said)))
    again = parse(DetectConfig, "x", [f"--config={tmp_path / 'config.yaml'}"])
    assert again == said and again.mgd.ignore == () and again.levels == ("c2", "p3")


def test_numbers_are_read_as_the_command_line_reads_them(tmp_path: Path) -> None:
    text = "optim: {lr: 1e-3, epochs: 12}\ndevice: {precision: 32}\nout: 1.10\n"
    config = read(tmp_path / "c.yaml", text)
    assert (config.optim.lr, config.optim.epochs, config.out) == (0.001, 12, Path("1.10"))
    assert config.device.precision == "32"


def test_what_an_older_file_lacks_has_its_default(tmp_path: Path) -> None:
    assert read(tmp_path / "c.yaml", "seed: 3\noptim: {}\n") == complete(PretrainConfig, seed=3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method: bogus", "method: got 'bogus', expected mgd-plus"),
        ("method: simsiem", "nearest: simsiam"),
        ("device: {precision: bf17}", r"device.precision: got 'bf17', expected .*; nearest: bf16"),
        ("optim: {lr: ten}", "optim.lr: got 'ten', expected FLOAT"),
        ("optim: {lr: [0.1]}", r"optim.lr: got \['0.1'\], expected FLOAT"),
        ("optim: {lr: {a: 1}}", "optim.lr: got {'a': '1'}, expected FLOAT"),
        ("optim: {lr: .nan}", "optim.lr: got '.nan', expected FLOAT"),
        ("optim: {lr: nan}", "optim.lr: got nan, expected a finite number"),
        ("optim: {lr: -inf}", "optim.lr: got -inf, expected a finite number"),
        ("optim: {lr: true}", "optim.lr: got true, expected FLOAT"),
        ("optim: {momentum: null}", "optim.momentum: got null, expected FLOAT"),
        ("optim: {epochs: 2.5}", "optim.epochs: got '2.5', expected INT"),
        ("optim: {schedule: 30}", "optim.schedule: got '30', expected a list of INT"),
        ("optim: {schedule: [30, [4]]}", "optim.schedule: got .*expected a list of INT"),
        ("optim: {schedule: [30, null]}", "optim.schedule: got .*expected a list of INT"),
        ("loader: {mean: [1, 2]}", "loader.mean: got .*expected a list of 3 of FLOAT"),
        ("optim: {cos: maybe}", "optim.cos: got 'maybe', expected True, False"),
        ("optim: {cos: 'True'}", "optim.cos: got 'True', expected True, False"),
        ("out: no", "out: got false, expected PATH"),
        ("network: {taps: [layer1]}", "network.taps: got .*expected a list of NAME"),
        ("network: 3", "network: got '3', expected settings"),
        ("optim:", "optim: got null, expected settings"),
        ("optim: [1]", r"optim: got \['1'\], expected settings"),
        ("loader: {workers: -1}", "loader.workers: got -1, expected 0 or more"),
        ("epoch: 3", "unknown entry epoch, expected optim.epochs"),
        ("optim: {epoch: 3}", "unknown entry optim.epoch, expected optim.epochs"),
        ("lr: 0.1", "unknown entry lr, expected optim.lr"),
        ("network: {lr: 0.1}", "unknown entry network.lr, expected optim.lr"),
        ("zzz: 0.1", "unknown entry zzz, expected some of data, out"),
        ("3: 0.1", "unknown entry 3, expected"),
        ("seed: 1\nseed: 2", "seed stands twice"),
        ("seed: [", "is no YAML"),
        ("- seed", r"got \['seed'\], expected settings"),
        ("", "got null, expected settings"),
        (b"\xff\xfe\x00", "is no YAML"),
        ("seed: !!python/object/apply:os.system ['true']", "is no YAML"),
        ("seed: " + "[" * 3000, "is no YAML"),
        ("seed: !!binary aGk=", "seed: got b'hi', expected INT"),
    ],
)
def test_a_file_that_the_command_line_would_refuse(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    with pytest.raises(ValueError, match=rf"(?s)config: .*c\.yaml.*{said}"):
        read(tmp_path / "c.yaml", text)


@pytest.mark.parametrize("option", ["--arch", "-a"])
def test_a_file_names_no_code_unless_the_command_line_does(tmp_path: Path, option: str) -> None:
    text = "network: {arch: 'os:getcwd'}\nteacher: {teacher_arch: 'os:abort'}\n"
    for argv in ([], [option, "os:getcwd"], ["--teacher-arch", "os:abort"]):
        with pytest.raises(ValueError, match=r"got 'os:\w+', expected none in a file.*say --"):
            read(tmp_path / "c.yaml", text, *argv)
    both = [option, "resnet34", "--teacher-arch", "os:abort"]
    config = read(tmp_path / "c.yaml", text, *both)
    assert (config.network.arch, config.teacher.teacher_arch) == ("resnet34", "os:abort")


def test_a_file_deletes_nothing_unless_the_command_line_does(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"overwrite: got true, expected none .*--overwri"):
        read(tmp_path / "c.yaml", "overwrite: true")
    assert read(tmp_path / "c.yaml", "overwrite: true", "--overwrite").overwrite
    assert not read(tmp_path / "c.yaml", "overwrite: false").overwrite


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    text = "data: theirs\nseed: 1\noptim: {lr: 0.5, schedule: [1, 2, 3], cos: true}\n"
    config = read(tmp_path / "c.yaml", text, "mine", "--lr", "7", "--schedule", "9", "--no-cos")
    assert (config.data, config.seed, config.optim.lr) == ((Path("mine"),), 1, 7)
    assert config.optim.schedule == (9,) and not config.optim.cos


def test_a_home_directory_is_written_out_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("teacher: {teacher: ~/t.pt}\n")
    config = parse(PretrainConfig, "x", ["~/images", "--out=~/run", "--config=~/c.yaml"])
    assert (config.data, config.out) == ((tmp_path / "images",), tmp_path / "run")
    assert config.teacher.teacher == tmp_path / "t.pt"
    nobody = "~nobody-of-that-name/a"
    assert parse(PretrainConfig, "x", [nobody]).data == (Path(nobody),)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_of_the_command_line_are_finite(value: str) -> None:
    with pytest.raises(ValueError, match=f"lr: got {value}, expected a finite number"):
        parse(PretrainConfig, "x", [f"--lr={value}"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--config", "a.yaml", "--config=b.yaml"], "got a.yaml and b.yaml, expected one file"),
        (["--config"], "no file given, expected --config FILE"),
        (["--config="], "no file given, expected --config FILE"),
        (["--config", "--seed", "3"], "no file given, expected --config FILE"),
        (["--config", "."], "which is no file"),
    ],
)
def test_a_config_that_cannot_be_meant(argv: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(PretrainConfig, "x", argv)


def test_a_refused_file_is_one_message_and_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(f"method: bogus\nout: {tmp_path / 'run'}\n")
    assert pretrain.main(["--config", str(tmp_path / "c.yaml")]) == 1
    assert capsys.readouterr().err.count("error: config: ") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("data: a", (Path("a"),)),
        ("data: [a, b]", (Path("a"), Path("b"))),
        ("data: null", ()),
        ("data: []", ()),
    ],
)
def test_data_is_one_place_or_several(tmp_path: Path, text: str, data: tuple[Path, ...]) -> None:
    config = read(tmp_path / "c.yaml", text)
    assert config.data == data
    written = yaml.safe_load(yaml.safe_dump(saved(config)))
    assert written["data"] == [str(place) for place in data]
    assert read(tmp_path / "c.yaml", yaml.safe_dump(written)) == config
