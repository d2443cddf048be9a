"""What the settings of every command offer to their reader, `mgd_ssl.settings.parsing`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from mgd_ssl.settings.effects import Needs


@dataclass(frozen=True)
class Settings:
    """Settings of a command: complete, each option with a value that means what it says.

    Attributes:
        MAIN: the options that ``--help`` shows; all where there are none.
        EXAMPLE: a command line.
    """

    MAIN: ClassVar[tuple[str, ...]] = ()
    EXAMPLE: ClassVar[str] = ""

    @classmethod
    def widest(cls) -> Self:
        """Settings that take the options of every choice, to read a command line at first."""
        return cls()

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> dict[str, Any]:
        """Options that the files named by ``said`` tell, such as the size of their images."""
        return {}

    @classmethod
    def recipe(cls, said: Mapping[str, Any]) -> Self:
        """The defaults that go with a choice.

        Args:
            said: option -> value, those that were given. Those that decide on others are put in;
                the others are left to the reader of the command line.
        """
        return cls.widest()

    def check(self) -> None:
        """Refuse what is out of range, and what excludes each other.

        Raises:
            ValueError: says what, and what was expected.
        """

    def rules(self) -> Sequence[Needs]:
        """What options need to have an effect."""
        return ()
