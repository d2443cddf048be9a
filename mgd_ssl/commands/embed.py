"""``mgd-ssl embed``: features of images, in a file."""

from collections.abc import Sequence

from mgd_ssl.commands.terminal import guarded
from mgd_ssl.settings.embed import EmbedConfig
from mgd_ssl.settings.parsing import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: run(parse(EmbedConfig, "mgd-ssl embed", argv)), "embed", argv)


def run(config: EmbedConfig) -> None:
    """Run it as parsed."""
    from mgd_ssl.exporting.embedding import run  # torch loads once the options are good

    run(config)


if __name__ == "__main__":
    raise SystemExit(main())
