"""Where in a file a network's weights are: found by which names fit the network.

A file may hold several that fit. In this order one is taken: averaged weights (``model_ema``),
a teacher beside its student (DINO), any other, a student, and last what follows another network
by momentum (``encoder_k``, ``momentum_encoder``, ``target_network``).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor

# What torch puts around a module, anywhere in its names: DDP, torch.compile, FSDP, checkpointing.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# A ResNet taken apart and put into a Sequential has numbers for names.
RESNET_CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
DEEPEST = 3
FEWEST = 16  # entries of a network
ROLES = (
    ("follower", re.compile(r"(^|_)(k|key|momentum|target)(_|$)")),
    ("averaged", re.compile(r"(^|_)(ema|averaged?|swa)(_|$)")),
    ("teacher", re.compile(r"(^|_)teacher(_|$)")),
    ("student", re.compile(r"(^|_)student(_|$)")),
)
ORDER = ("averaged", "teacher", "network", "student", "follower")
# Words of a prefix whose network ends in a projection, even where that is one linear layer.
PROJECTED = re.compile(r"(^|_)(encoder|online)(_|$)")
NAMES = {
    "encoder_q": "moco",
    "encoder_k": "moco",
    "base_encoder": "moco v3",
    "momentum_encoder": "moco v3",
    "backbone.body": "detector",
}


@dataclass(frozen=True)
class Place:
    """Where in a file a network may be.

    Attributes:
        entry: names of the entries that lead to its state dict; none where the file is one.
        prefix: what its keys begin with there, as "module.encoder_q."; "" where with nothing.
        numbered: whether its modules have a Sequential's numbers for names.
    """

    entry: tuple[str, ...]
    prefix: str
    numbered: bool = False

    @property
    def role(self) -> str:
        """One of `ORDER`."""
        words = [*self.entry, *self.prefix.split(".")]
        found = (name for name, word in ROLES if any(map(word.search, words)))
        return next(found, "network")

    @property
    def layout(self) -> str:
        """The project that writes such files, or the words of the prefix."""
        words = [w for w in self.prefix.split(".") if w and w not in WRAPPERS]
        name = ".".join(words)
        if self.role == "teacher" and words in ([], ["backbone"]):
            return "dino"
        if words:
            known = (NAMES[w] for w in (name, *words) if w in NAMES)
            return next(known, name)
        if self.role == "averaged":
            return "averaged"
        return "swav" if self.prefix else "state_dict" if self.entry else "plain"

    @property
    def is_projected(self) -> bool:
        """Whether its head, even of one linear layer, is a projection and no classifier."""
        return any(map(PROJECTED.search, self.prefix.split(".")))

    def __str__(self) -> str:
        where = "/".join(self.entry) or "the file itself"
        return f"{where}, prefix {self.prefix}" if self.prefix else where


def read_place(content: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Every entry under a place, by the network's names."""
    source: Any = content
    for name in place.entry:
        source = source[name]
    found = {}
    for key, value in source.items():
        if isinstance(key, str) and key.startswith(place.prefix):
            rest = _unwrapped(key.removeprefix(place.prefix))
            found[_named(rest) if place.numbered else rest] = value
    return found


def find_places(content: Mapping[str, Any], keys: Iterable[str]) -> dict[Place, int]:
    """Places that hold some of a network's keys, the preferred first, and how many they hold."""
    wanted = set(map(_unwrapped, keys))
    found: dict[Place, set[str]] = defaultdict(set)
    for (entry, source), numbered in product(state_dicts(content), (False, True)):
        for key in source:
            for prefix, rest in _cuts(key):
                name = _named(rest) if numbered else rest
                if name in wanted and name != (rest if numbered else None):
                    found[Place(entry, prefix, numbered)].add(name)
    counts = {place: len(names) for place, names in found.items()}
    return dict(sorted(counts.items(), key=lambda item: _rank(item[0])))


def full_places(content: Mapping[str, Any]) -> list[Place]:
    """Places that hold as many entries as a network has, whatever their names."""
    counts: dict[Place, int] = defaultdict(int)
    for entry, source in state_dicts(content):
        for prefix in (prefix for key in source for prefix, _ in _cuts(key)):
            counts[Place(entry, prefix)] += 1
    return sorted((p for p, count in counts.items() if count >= FEWEST), key=_rank)


def _rank(place: Place) -> tuple[int, int, int]:
    last = place.entry[-1] if place.entry else ""
    entries = ("state_dict", "model", last)
    return ORDER.index(place.role), entries.index(last), place.prefix.count(".")


def state_dicts(
    content: Mapping[Any, Any], entry: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every mapping of names to tensors in a file, by the entries that lead to it."""
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    if any(isinstance(value, Tensor) for value in named.values()):
        yield entry, named
    for key, value in named.items():
        if isinstance(value, Mapping) and len(entry) < DEEPEST:
            yield from state_dicts(value, (*entry, key))


def _cuts(key: str) -> Iterator[tuple[str, str]]:
    """Every way to part a key into a prefix and a name, wrappers belonging to the prefix."""
    words = key.split(".")
    for place, word in enumerate(words):
        if word not in WRAPPERS:
            prefix = "".join(f"{w}." for w in words[:place])
            yield prefix, _unwrapped(".".join(words[place:]))


def _unwrapped(key: str) -> str:
    return ".".join(word for word in key.split(".") if word not in WRAPPERS)


def _named(key: str) -> str:
    """A key of a numbered ResNet by its module's name."""
    first, _, rest = key.partition(".")
    known = first.isdecimal() and int(first) < len(RESNET_CHILDREN)
    return f"{RESNET_CHILDREN[int(first)]}.{rest}" if known else key
