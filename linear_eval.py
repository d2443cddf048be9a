"""Linear probe of a checkpoint; see mgd_ssl/commands/linear_eval.py."""

from mgd_ssl.commands.linear_eval import main

if __name__ == "__main__":
    raise SystemExit(main())
