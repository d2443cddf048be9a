"""The order of images: a pure function of seed and epoch, that can start anywhere."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class Indices(list[int]):
    """Images of a batch, and the epoch, from 0, that it belongs to."""

    epoch: int = 0

    @classmethod
    def of(cls, indices: Iterable[int], epoch: int) -> Self:
        """These images in an epoch."""
        made = cls(indices)
        made.epoch = epoch
        return made


@dataclass(frozen=True)
class Blocks:
    """Shuffling for a disk that is slow to jump: images that lie beside each other stay close.

    The data is cut into blocks, the blocks are shuffled, and the images of so many blocks at a time
    are shuffled among themselves. For shards, a block is best as large as a shard.

    Attributes:
        size: images of a block.
        mixed: blocks whose images are shuffled together; more come nearer to a full shuffle.

    Raises:
        ValueError: one of them is not positive.
    """

    size: int
    mixed: int = 16

    def __post_init__(self) -> None:
        if self.size < 1 or self.mixed < 1:
            raise ValueError(
                f"{self.mixed} blocks of {self.size} images; expected at least 1 of each."
            )


def shuffled(length: int, seed: int, epoch: int, blocks: Blocks | None = None) -> NDArray[np.int64]:
    """Each of 0 to ``length`` - 1 once, in the order of an epoch.

    Args:
        length: number of images.
        seed: of the order.
        epoch: from 0.
        blocks: shuffle by blocks; None shuffles everything.
    """
    generator = np.random.default_rng([seed, epoch])
    if blocks is None:
        return generator.permutation(length)
    starts = generator.permutation(-(-length // blocks.size)) * blocks.size
    places = np.arange(blocks.size)
    parts = list[NDArray[np.int64]]()
    for first in range(0, len(starts), blocks.mixed):
        some = (starts[first : first + blocks.mixed, None] + places).reshape(-1)
        parts.append(generator.permutation(some[some < length]))
    return np.concatenate(parts)


class ResumableBatchSampler(Sampler[list[int]]):
    """Batches of indices for one process.

    In training the images are shuffled by (seed, epoch), the last partial batch is dropped, and a
    step's global batch, which the processes share out, does not depend on their number. In
    evaluation process r gets images r, r + world_size, ... in order.

    Args:
        length: number of images.
        batch_size: images a batch on this process.
        train: shuffle and drop the last partial batch.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes.
        blocks: shuffle by blocks; None shuffles everything.

    Raises:
        ValueError: no images, a batch size that is not positive, or training batches of all
            processes larger than the data set.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        train: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        blocks: Blocks | None = None,
    ) -> None:
        if batch_size < 1 or length < 1:
            raise ValueError(
                f"batches of {batch_size} from {length} images; expected at least 1 of each."
            )
        if train and batch_size * world_size > length:
            raise ValueError(
                f"batch size {batch_size} on {world_size} process(es) with {length} images; "
                "expected no more than there are images. Use a smaller batch size or more images."
            )
        self.length, self.batch_size, self.train, self.seed = length, batch_size, train, seed
        self.rank, self.world_size, self.blocks = rank, world_size, blocks
        self.epoch = self.start_step = 0

    def set_position(self, epoch: int, start_step: int = 0) -> None:
        """Make the next iteration that of ``epoch``, without its first ``start_step`` batches."""
        self.epoch, self.start_step = epoch, start_step

    def __len__(self) -> int:
        """Batches a whole epoch, whatever the starting step."""
        if self.train:
            return self.length // (self.batch_size * self.world_size)
        share = len(range(self.rank, self.length, self.world_size))
        return -(-share // self.batch_size)

    def __iter__(self) -> Iterator[Indices]:
        """Yield the indices of each batch, from the starting step on."""
        mine, epoch = self._share(), self.epoch
        for step in range(self.start_step, len(self)):
            batch = mine[step * self.batch_size : (step + 1) * self.batch_size]
            yield Indices.of(batch.tolist(), epoch)

    def _share(self) -> np.ndarray:
        if not self.train:
            return np.arange(self.rank, self.length, self.world_size)
        order = shuffled(self.length, self.seed, self.epoch, self.blocks)
        whole = order[: len(self) * self.batch_size * self.world_size]
        return whole.reshape(len(self), self.world_size, self.batch_size)[:, self.rank].reshape(-1)
