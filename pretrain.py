"""Distil a student from a teacher, or train plain MoCo; see mgd_ssl/commands/pretrain.py."""

from mgd_ssl.commands.pretrain import main

if __name__ == "__main__":
    raise SystemExit(main())
