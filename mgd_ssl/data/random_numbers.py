"""Random numbers of many images at once, each image's a function of its own index."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GAMMA = np.uint64(0x9E3779B97F4A7C15)
FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def uniform(seeds: Sequence[int], indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1): (N, count), ``count`` of them for each index.

    An index's numbers do not depend on the others that are asked for.

    Args:
        seeds: not negative; other seeds give other numbers.
        indices: (N,), not negative.
        count: the same for every call whose numbers are to agree.
    """
    seed = int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0])
    positions = indices[:, None] * count + np.arange(count)
    bits = splitmix64(seed, positions)
    return np.ldexp((bits >> np.uint64(11)).astype(np.float64), -53)


def splitmix64(seed: int, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The numbers at some positions, from 0, of the SplitMix64 generator.

    Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014. A number
    depends on its position alone, unlike those of NumPy's generators, which would have to be
    made anew for every image.
    """
    bits = (positions.astype(np.uint64) + np.uint64(1)) * GAMMA + np.uint64(seed)
    for shift, factor in zip((30, 27), FACTORS, strict=True):
        bits = (bits ^ (bits >> np.uint64(shift))) * factor
    mixed: NDArray[np.uint64] = bits ^ (bits >> np.uint64(31))
    return mixed
