"""The subcommands: one file a command, the only place that wires parts together.

What must be set before torch loads is set as this package is imported.
"""

from mgd_ssl import process

process.prepare()
