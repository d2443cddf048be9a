"""Kinds of files of features: one module each, named in `FEATURE_FILES`."""
