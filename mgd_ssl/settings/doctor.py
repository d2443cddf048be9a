"""Options of ``mgd-ssl doctor``."""

from dataclasses import dataclass
from typing import ClassVar

from mgd_ssl.settings.settings import Settings


@dataclass(frozen=True)
class DoctorConfig(Settings):
    """Print versions, devices, memory and disk, and the command that adds what is missing."""

    EXAMPLE: ClassVar = "mgd-ssl doctor"
