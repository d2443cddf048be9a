"""The libraries that checkpoints are exported to: one module each, named in `EXPORT_TARGETS`."""
