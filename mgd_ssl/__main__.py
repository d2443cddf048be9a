"""``python -m mgd_ssl COMMAND``: the same as ``mgd-ssl COMMAND``."""

from mgd_ssl.commands.main import main

if __name__ == "__main__":
    raise SystemExit(main())
