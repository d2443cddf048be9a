"""Whole batches of a source's images, cut to one size."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mgd_ssl.data.bad_files import read_or_next
from mgd_ssl.data.batches import Batch, Sample
from mgd_ssl.data.cropping import Cropping, Draws
from mgd_ssl.data.sampling import Indices
from mgd_ssl.data.sources import ImageSource

AnyBatch = TypeVar("AnyBatch", covariant=True)
LARGEST_AT_ONCE = 128  # side in pixels of an array's images that are cut together


class Store(Protocol):
    """Something that is stored of images' crops."""

    def read(self, epoch: int, images: NDArray[np.int64]) -> dict[str, Tensor]:
        """Of B images' V crops in an epoch: name -> (B, V, ...)."""


class SourceDataset(Dataset[Any], ABC, Generic[AnyBatch]):
    """Whole batches of a source's images, which subclasses read in ``__getitems__``.

    Args:
        source: the images.
        exif: turn images as their EXIF orientation says.
    """

    def __init__(self, source: ImageSource, exif: bool = True) -> None:
        self.source, self.exif = source, exif

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        """The batch of ``indices``."""


class ImageDataset(SourceDataset[Batch]):
    """Images cut to one size; one that cannot be decoded is replaced by the next that can.

    Args:
        source: the images.
        cropping: what is cut from them.
        exif: turn images as their EXIF orientation says.
        store: what is stored of the crops, which goes with them.
    """

    def __init__(
        self,
        source: ImageSource,
        cropping: Cropping,
        exif: bool = True,
        store: Store | None = None,
    ) -> None:
        super().__init__(source, exif)
        self.cropping, self.store = cropping, store
        first = source.read_array(np.zeros(1, dtype=np.int64))
        self.at_once = first is not None and max(first.shape[1:3]) <= LARGEST_AT_ONCE

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` in epoch 0; see :meth:`__getitems__`."""
        return self._sample(index, self._draw(0, index), 0)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch of the epoch that :class:`Indices` say, or of epoch 0.

        An image that cannot be decoded is replaced by the next that can, with ``failed`` set to
        the index of the first. Small images of one array are cut together.

        Raises:
            DecodeError: an image and the thousand after it, or all, cannot be decoded.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        epoch = indices.epoch if isinstance(indices, Indices) else 0
        draws = self.cropping.draw(epoch, self.source.in_whole(wanted))
        if self.at_once:
            batch = self._from_array(wanted, draws)
        else:
            batch = self._each(wanted, draws, epoch)
        if self.store is None:
            return batch
        used = self.source.in_whole(batch.indices.numpy())
        return batch._replace(stored=self.store.read(epoch, used))

    def _each(self, indices: NDArray[np.int64], draws: list[Draws], epoch: int) -> Batch:
        each = zip(indices.tolist(), draws, strict=True)
        samples = [self._sample(index, drawn, epoch) for index, drawn in each]
        numbers = torch.tensor([(sample.label, sample.index, sample.failed) for sample in samples])
        labels, used, failed = numbers.unbind(1)
        return Batch(torch.stack([sample.image for sample in samples]), labels, used, failed)

    def _draw(self, epoch: int, index: int) -> Draws:
        return self.cropping.draw(epoch, self.source.in_whole(np.array([index])))[0]

    def _sample(self, index: int, draws: Draws, epoch: int) -> Sample:
        def read(used: int) -> Tensor:
            # what is stored of the replacement is of its own crops
            own = self._draw(epoch, used) if self.store and used != index else draws
            return self.cropping.one(self.source.open(used, exif=self.exif), own)

        image, used, failed = read_or_next(self.source, index, read)
        labels = self.source.labels
        label = -1 if labels is None else int(labels[used])
        return Sample(image, label, used, failed)

    def _from_array(self, indices: NDArray[np.int64], draws: list[Draws]) -> Batch:
        array = self.source.read_array(indices)
        assert array is not None
        images = torch.from_numpy(array)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
        none, labels = torch.full((len(indices),), -1), self.source.labels
        found = none if labels is None else torch.from_numpy(labels[indices])
        cropped = self.cropping.many(images, draws).contiguous()
        return Batch(cropped, found, torch.from_numpy(indices), none)
