"""kNN accuracy and retrieval checks of a checkpoint; see mgd_ssl/commands/knn_eval.py."""

from mgd_ssl.commands.knn_eval import main

if __name__ == "__main__":
    raise SystemExit(main())
