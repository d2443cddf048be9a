"""``mgd-ssl doctor``: what is installed here, and what the machine has."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.doctor import DoctorConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(DoctorConfig, "mgd-ssl doctor", argv)), "doctor", argv)


def run(config: DoctorConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.runs.doctor import run  # torch loads only once the options are known to be good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
