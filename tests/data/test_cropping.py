import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from image_files import photo, save
from picture_files import open_picture
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop, transforms
from torchvision.transforms.v2 import functional as TF

from mgd_ssl.data import ArraySource, CenterCrop, ImageDataset, RandomCrops, random_crops
from mgd_ssl.data.cropping import Box, cut, cut_many, draw_box
from mgd_ssl.data.decoding import Picture
from mgd_ssl.data.random_numbers import uniform
from mgd_ssl.settings.views import preset

WHOLE = (1.0, 1.0)


def opened(image: np.ndarray) -> Picture:
    return Picture.of(Image.fromarray(image))


def as_array(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy().astype(int)


# boxes


class Scalar(float):
    def item(self) -> float:
        return float(self)


@pytest.fixture
def torchvision_box(monkeypatch):
    """torchvision's own get_params with our random numbers in place of torch's."""

    def get(width, height, area, numbers):
        tries, places = iter(numbers), []  # top, left, ratio and area of a try

        def uniform(least, most):
            if len(places) != 3:  # another try; the last one did not fit
                places[:] = [*next(tries)][::-1]
            return Scalar(least + places.pop() * (most - least))

        def randint(least, most, size):
            place = places.pop(0)
            return Scalar(int(least + place * (most - least)))

        fake = SimpleNamespace(
            empty=lambda _: SimpleNamespace(uniform_=lambda a, b: uniform(float(a), float(b))),
            tensor=lambda values: np.array(values),
            log=np.log,
            exp=lambda value: Scalar(math.exp(value)),
            randint=randint,
        )
        monkeypatch.setattr(transforms, "torch", fake)
        image = Image.new("L", (width, height))
        top, left, h, w = RandomResizedCrop.get_params(image, list(area), [3 / 4, 4 / 3])
        monkeypatch.undo()
        return Box(int(left), int(top), w, h)

    return get


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (64, 64), (300, 40), (9, 7), (1, 1)])
@pytest.mark.parametrize("area", [(0.2, 1.0), (0.08, 1.0), (0.9, 1.0), WHOLE])
def test_box_is_torchvisions_for_the_same_random_numbers(torchvision_box, size, area):
    for numbers in uniform((0,), np.arange(100), 40).reshape(-1, 10, 4).tolist():
        assert draw_box(*size, area, numbers) == torchvision_box(*size, area, numbers)


def test_boxes_are_distributed_as_torchvisions():
    draws = RandomCrops(8, 2, (0.2, 1.0)).draw(3, np.arange(1000))
    ours = np.array([draw_box(500, 375, (0.2, 1.0), d.tries) for image in draws for d in image])
    torch.manual_seed(0)
    image = Image.new("L", (500, 375))
    theirs = np.array(
        [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(2000)]
    )[:, [1, 0, 3, 2]]
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.001
    share, ratio = ours[:, 2] * ours[:, 3] / (500 * 375), ours[:, 2] / ours[:, 3]
    assert abs(share.mean() - (theirs[:, 2] * theirs[:, 3]).mean() / (500 * 375)) < 0.02
    assert share.min() > 0.199 and share.max() <= 1 and ratio.min() > 0.74 and ratio.max() < 1.35


def test_crops_reach_every_part_of_a_wide_picture():
    draws = RandomCrops(8, 1, (0.2, 0.4)).draw(0, np.arange(400))
    boxes = np.array([draw_box(800, 400, (0.2, 0.4), image[0].tries) for image in draws])
    right, bottom = boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    assert boxes[:, 0].min() < 20 and right.max() > 780  # a center square has 200 to 600
    assert boxes[:, 1].min() < 20 and bottom.max() > 380


def test_every_seed_epoch_image_and_view_draws_its_own_box():
    def draw(seed, epoch):
        return RandomCrops(8, 2, seed=seed).draw(epoch, np.array([5, 9]))

    drawn = [view for s in (0, 1) for e in (0, 1) for image in draw(s, e) for view in image]
    every = [view.tries[0][0] for view in drawn]
    assert len(set(every)) == 16
    assert draw(1, 1) == draw(1, 1)
    assert RandomCrops(8, 2).draw(0, np.array([9]))[0] == draw(0, 0)[1]


# pixels


@pytest.mark.parametrize("box", [Box(10, 5, 60, 44), Box(0, 0, 90, 70), Box(3, 2, 17, 13)])
def test_crop_is_what_torchvision_and_pillow_make_of_its_box(box):
    image = Image.fromarray(photo(height=70, width=90))
    left, top, width, height = box
    got = cut(image, box, 32)
    tensor = TF.pil_to_tensor(image)
    assert torch.equal(got, TF.resized_crop(tensor, top, left, height, width, [32, 32]))
    pillow = TF.resized_crop(image, top, left, height, width, [32, 32])
    assert np.abs(as_array(got) - np.asarray(pillow)).max() <= 1


@pytest.mark.parametrize("size", [20, 32, 50])
@pytest.mark.parametrize("channels", [1, 3])
def test_crops_of_many_small_images_are_those_of_each(size, channels):
    images = torch.from_numpy(np.stack([photo(i, 28, 33) for i in range(6)])).permute(0, 3, 1, 2)
    images = images[:, :channels]
    crops = RandomCrops(size, 2)
    draws = crops.draw(0, np.arange(6))
    got = crops.many(images, draws)
    assert got.shape == (6, 2, 3, size, size) and got.dtype == torch.uint8
    for row, image in enumerate(images.expand(-1, 3, -1, -1)):
        one = crops.one(Picture.of(TF.to_pil_image(image)), draws[row])
        assert (got[row].int() - one.int()).abs().max() <= 1
    whole = torch.tensor([[[0, 0, 33, 28]]]).expand(6, 1, 4)
    resized = TF.resize(images, [size, size], antialias=True)[:, None].expand(-1, -1, 3, -1, -1)
    assert (cut_many(images, whole, size).int() - resized.int()).abs().max() <= 1


def test_views_share_one_decoding_of_the_picture():
    class Once(Picture):
        def load(self):
            loads.append(1)
            return super().load()

    loads: list[int] = []
    crops = RandomCrops(16, 3)
    picture = Once.of(Image.fromarray(photo()))
    assert crops.one(picture, crops.draw(0, np.array([0]))[0]).shape == (3, 3, 16, 16)
    assert len(loads) == 1


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_crop_of_a_jpeg_decoded_smaller_is_the_same_part_of_the_upright_picture(
    tmp_path, orientation
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo(height=400, width=520)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    path, crops = str(tmp_path / "a.jpg"), RandomCrops(32, 2, (0.3, 0.6))
    whole = open_picture(path).load()
    for draws in crops.draw(0, np.arange(5)):
        got = crops.one(open_picture(path), draws)
        boxes = [draw_box(*whole.size, (0.3, 0.6), view.tries) for view in draws]
        n = open_picture(path).reduce(min(min(b.width, b.height) for b in boxes) / 32)
        assert n >= 4
        for crop, (left, top, width, height) in zip(got, boxes, strict=True):
            right, bottom = round((left + width) / n) * n, round((top + height) / n) * n
            left, top = round(left / n) * n, round(top / n) * n  # whole pixels when reduced
            expected = cut(whole, Box(left, top, right - left, bottom - top), 32)
            assert np.abs(as_array(crop) - as_array(expected)).mean() < 2


def test_jpeg_is_not_decoded_smaller_than_a_crop_needs(tmp_path, monkeypatch):
    save(tmp_path / "a.jpg", photo(height=100, width=100))
    asked: list[float] = []
    monkeypatch.setattr(Picture, "reduce", lambda self, most: asked.append(most) or 1)
    crops = RandomCrops(40, 2, (0.2, 1.0))
    (draws,) = crops.draw(0, np.array([3]))
    crops.one(open_picture(str(tmp_path / "a.jpg")), draws)
    sides = [s for view in draws for s in draw_box(100, 100, (0.2, 1.0), view.tries)[2:]]
    assert asked == [min(sides) / 40]


def test_crop_min_and_crop_max_of_the_views_are_the_area():
    crops = random_crops(preset("crops", crop_max=0.7), 24, 2, seed=3)
    assert crops == RandomCrops(24, 2, (0.5, 0.7), 3, flip_p=0.5)


def test_crops_are_flipped_as_often_as_the_probability_says():
    draws = RandomCrops(16, 2, flip_p=0.3).draw(0, np.arange(2000))
    flips = np.array([[view.flip for view in image] for image in draws])
    assert np.abs(flips.mean(axis=0) - 0.3).max() < 0.04
    assert np.abs(np.corrcoef(flips.T)[0, 1]) < 0.1
    image, some = Picture.of(Image.fromarray(photo())), flips.any(axis=1).argmax()
    got = RandomCrops(16, 2, flip_p=0.3).one(image, draws[some])
    straight = RandomCrops(16, 2).one(image, [view._replace(flip=False) for view in draws[some]])
    for crop, plain, flip in zip(got, straight, flips[some], strict=True):
        assert torch.equal(crop, plain.flip(-1) if flip else plain)


def test_flips_of_many_images_are_those_of_each():
    images = torch.from_numpy(np.stack([photo(i, 28, 33) for i in range(6)])).permute(0, 3, 1, 2)
    crops = RandomCrops(20, 2, flip_p=0.5)
    draws = crops.draw(0, np.arange(6))
    straight = [[view._replace(flip=False) for view in image] for image in draws]
    expected = crops.many(images, straight)
    for row, image in enumerate(draws):
        for view, draw in enumerate(image):
            if draw.flip:
                expected[row, view] = expected[row, view].flip(-1)
    assert torch.equal(crops.many(images, draws), expected)


def test_image_of_a_subset_is_cut_as_in_the_whole():
    source = ArraySource(np.stack([photo(i, 28, 33) for i in range(6)]))
    crops = RandomCrops(20, 1, flip_p=0.5)
    whole = ImageDataset(source, crops).__getitems__(range(6)).images
    some = source.select(np.array([1, 3, 4])).select(np.array([0, 2]))
    assert torch.equal(ImageDataset(some, crops).__getitems__([0, 1]).images, whole[[1, 4]])


# the evaluation's center


def test_centre_agrees_with_pillow_bilinear():
    image = photo(height=60, width=90)
    got = CenterCrop(32, 32).one(opened(image), [])
    expected = TF.center_crop(TF.resize(Image.fromarray(image), 32), [32, 32])
    assert np.abs(as_array(got) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(20, 130), (130, 20), (7, 400), (33, 133)])
def test_centre_of_a_long_image_is_that_of_the_whole_resized_image(height, width):
    image = Image.fromarray(photo(height=height, width=width))
    got = CenterCrop(24, 16).one(Picture.of(image), [])
    expected = TF.center_crop(TF.resize(image, 24), [16, 16])
    assert np.abs(as_array(got) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize(("resize", "crop"), [(8, 9), (8, 0)])
def test_crop_that_does_not_fit_is_refused(resize, crop):
    with pytest.raises(ValueError, match="expected 0 < crop <= resize"):
        CenterCrop(resize, crop)


# extreme shapes


@pytest.fixture
def resized(monkeypatch):
    """Pixels of everything that Pillow or torchvision resizes to."""
    sizes: list[int] = []

    def note(resize, pixels):
        def noted(*args, **kwargs):
            result = resize(*args, **kwargs)
            sizes.append(pixels(result))
            return result

        return noted

    pillow, tensor = Image.Image.resize, TF.resize
    monkeypatch.setattr(Image.Image, "resize", note(pillow, lambda image: math.prod(image.size)))
    monkeypatch.setattr(TF, "resize", note(tensor, lambda image: image[0].numel()))
    return sizes


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1), (1, 1), (2, 3), (60, 15000)])
@pytest.mark.parametrize("cropping", [CenterCrop(256, 224), RandomCrops(224, 2)])
def test_extreme_shapes_cost_no_more_than_their_crops(tmp_path, resized, cropping, shape, kind):
    path = str(save(tmp_path / f"a.{kind}", np.full((*shape, 3), 200, np.uint8)))
    (draws,) = cropping.draw(0, np.array([0]))
    got = cropping.one(open_picture(path), draws)
    assert got.shape[-3:] == (3, 224, 224) and (got.int() - 200).abs().max() <= 2
    assert resized and max(resized) <= 4 * 256 * 256


def test_a_crop_of_an_image_that_was_allowed_is_not_refused_by_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    crop = cut(Image.fromarray(photo(0, 100, 100)), Box(0, 0, 90, 90), 8)
    assert crop.shape == (3, 8, 8)
    assert Image.MAX_IMAGE_PIXELS == 1000
