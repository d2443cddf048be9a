"""The subcommands: one file a command, the only place that wires parts together."""
