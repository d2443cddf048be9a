import kornia.augmentation as K
import numpy as np
import pytest
import torch
from image_files import photo
from scipy.ndimage import gaussian_filter1d
from torchvision.transforms.v2 import functional as TF

from mgd_ssl.data import Normalize, Shrink, View, eval_transform
from mgd_ssl.images import IMAGENET_MEAN, IMAGENET_STD
from mgd_ssl.settings.views import PRESETS, ViewOptions, preset

SIDE = 36
NOTHING = {
    "flip_p": 0.0, "jitter_p": 0.0, "gray_p": 0.0, "blur_p": 0.0,
}  # fmt: skip


@pytest.fixture
def images() -> torch.Tensor:
    """Twelve smooth color images, (12, 3, SIDE, SIDE) uint8."""
    stack = np.stack([photo(seed, SIDE, SIDE) for seed in range(12)])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def view(size: int = SIDE, **parameters) -> torch.nn.Module:
    return View(preset("moco_v2", **{**NOTHING, **parameters}), size)


def step(module: torch.nn.Module, kind: type) -> torch.nn.Module:
    return next(m for m in module.modules() if isinstance(m, kind))


# randomness


@pytest.mark.parametrize("name", PRESETS)
def test_same_seed_gives_the_same_views_and_another_does_not(images, name):
    module = View(PRESETS[name], SIDE)
    views = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        views.append(module(images))
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[0], views[2]) == (name in ("crops", "linear"))  # crops alone
    torch.manual_seed(7)
    assert torch.equal(View(PRESETS[name], SIDE)(images), views[0])


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_drawn_on_the_cpu_wherever_a_view_is_moved(images, name):
    """Nothing of what decides on a step has to be read back from a device."""
    module = View(PRESETS[name], SIDE)
    torch.manual_seed(7)
    expected = module(images)
    moved = torch.nn.ModuleList([View(PRESETS[name], SIDE)]).to("meta")[0]
    torch.manual_seed(7)
    assert torch.equal(moved(images), expected)
    steps = [m for m in moved.modules() if isinstance(m, K.AugmentationBase2D)]
    drawn = [v for step in steps for v in step._params.values() if isinstance(v, torch.Tensor)]
    assert {value.device.type for value in drawn} <= {"cpu"}
    assert bool(drawn) == (name not in ("crops", "linear"))


@pytest.mark.parametrize("name", PRESETS)
def test_views_are_floats_in_the_unit_range(images, name):
    got = View(PRESETS[name], SIDE)(images)
    assert got.shape == images.shape and got.dtype == torch.float32
    assert got.min() >= 0 and got.max() <= 1 and not got.requires_grad


@pytest.mark.parametrize("name", ["moco_v1", "moco_v2", "small"])
def test_every_image_of_a_batch_draws_its_own_parameters(images, name):
    same = images[:1].expand(8, -1, -1, -1)
    torch.manual_seed(0)
    got = View(PRESETS[name], SIDE)(same)
    assert len({row.numpy().tobytes() for row in got}) == 8


def test_views_do_not_depend_on_the_precision_that_a_run_trains_in(images):
    module = View(PRESETS["moco_v2"], SIDE)
    torch.manual_seed(0)
    expected = module(images)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(images), expected)


def test_batch_is_left_as_it_was(images):
    before = images.clone()
    View(PRESETS["moco_v2"], SIDE)(images)
    assert torch.equal(images, before)


# each step against another implementation


def test_view_with_nothing_to_do_is_the_image_itself(images):
    torch.testing.assert_close(view()(images), images / 255, atol=2e-5, rtol=0)


def test_certain_gray_is_luminance(images):
    red, green, blue = (images / 255).unbind(1)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    expected = luminance[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(view(gray_p=1.0)(images), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_a_gaussian_of_its_sigma(images, sigma):
    got = view(blur_p=1.0, blur_sigma_min=sigma, blur_sigma_max=sigma)(images)
    radius = int(3 * sigma + 0.5)
    expected = (images / 255).double().numpy()
    for axis in (2, 3):
        expected = gaussian_filter1d(expected, sigma, axis=axis, mode="mirror", radius=radius)
    np.testing.assert_allclose(got.numpy(), expected, atol=3e-5)


def test_views_that_are_larger_than_meant_are_blurred_as_much_more(images):
    options = preset(
        "moco_v2", **NOTHING | {"blur_p": 1.0, "blur_sigma_min": 1, "blur_sigma_max": 1}
    )
    got = View(options, SIDE, enlarged=2.0)(images)
    expected = view(blur_p=1.0, blur_sigma_min=2.0, blur_sigma_max=2.0)(images)
    torch.testing.assert_close(got, expected)


def test_larger_views_shrink_as_torchvision_shrinks_them_and_smaller_ones_stay(images):
    views = images / 255
    torch.testing.assert_close(Shrink(20)(views), TF.resize(views, [20, 20], antialias=True))
    for side in (SIDE, SIDE + 1):
        assert Shrink(side)(views) is views


def test_blur_of_an_image_smaller_than_its_kernel_works(images):
    assert view(size=4, blur_p=1.0)(images[..., :4, :4]).shape == (12, 3, 4, 4)


def test_jitter_applies_torchvisions_formulas_with_its_own_factors(images):
    module = view(jitter_p=1.0)
    torch.manual_seed(3)
    got = module(images)
    drawn = step(module, K.ColorJitter)._params
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    adjust = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
    for row, image in enumerate(images / 255):
        for which in drawn["order"].tolist():
            image = adjust[which](image, float(drawn[names[which]][row]))
        torch.testing.assert_close(got[row], image, atol=2e-4, rtol=0)


def test_jitter_factors_stay_in_their_ranges(images):
    module = view(jitter_p=1.0, jitter_brightness=0.3, jitter_hue=0.2)
    torch.manual_seed(0)
    module(images[:1].expand(500, -1, -1, -1))
    drawn = step(module, K.ColorJitter)._params
    for name, low, high in (("brightness_factor", 0.7, 1.3), ("hue_factor", -0.2, 0.2)):
        values = drawn[name]
        assert low <= values.min() < low + 0.02 * (high - low) + 1e-6
        assert high - 0.02 * (high - low) - 1e-6 < values.max() <= high


def test_probabilities_are_those_of_the_configuration(images):
    same = images[:1, :, :12, :12].expand(2000, -1, -1, -1)
    torch.manual_seed(0)
    got = view(size=12, gray_p=0.2)(same)
    gray = (got.amax(1) - got.amin(1)).amax((1, 2)) < 1e-3
    assert abs(gray.float().mean() - 0.2) < 0.03  # three standard deviations


# presets


def kinds(name: str) -> list[str]:
    return [type(m).__name__ for m in View(PRESETS[name], SIDE).steps]


def test_steps_of_the_presets_come_in_the_order_of_their_papers():
    jitter, gray, blur = "ColorJitter", "RandomGrayscale", "RandomGaussianBlur"
    assert kinds("moco_v1") == [gray, jitter]
    assert kinds("moco_v2") == [jitter, gray, blur]
    assert kinds("small") == [jitter, gray]
    assert kinds("crops") == kinds("linear") == []


def test_moco_presets_have_the_published_values():
    v1, v2 = PRESETS["moco_v1"], PRESETS["moco_v2"]
    for p, hue, jitter_p in ((v1, 0.4, 1.0), (v2, 0.1, 0.8)):
        assert (p.crop_min, p.crop_max, p.flip_p, p.gray_p) == (0.2, 1.0, 0.5, 0.2)
        assert (p.jitter_brightness, p.jitter_contrast, p.jitter_saturation) == (0.4,) * 3
        assert (p.jitter_hue, p.jitter_p) == (hue, jitter_p)
    assert v1.blur_p == 0 and (v2.blur_p, v2.blur_sigma_min, v2.blur_sigma_max) == (0.5, 0.1, 2)
    assert PRESETS["linear"].crop_min == 0.08


def test_own_parameters_go_over_the_presets():
    parameters = preset("moco_v2", crop_min=0.5, blur_p=0.0)
    assert (parameters.crop_min, parameters.blur_p, parameters.jitter_p) == (0.5, 0.0, 0.8)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"crop_min": 0.0}, "0 < crop_min <= crop_max <= 1"),
        ({"crop_min": 0.9, "crop_max": 0.5}, r"crop_min=0\.9, crop_max=0\.5"),
        ({"flip_p": 1.5}, r"flip_p=1\.5; expected a probability"),
        ({"jitter_contrast": -0.1}, r"jitter_contrast=-0\.1; expected a strength"),
        ({"jitter_hue": 0.6}, "at most half a turn"),
        ({"blur_sigma_min": 3.0}, "0 < blur_sigma_min <= blur_sigma_max"),
        ({"gray_p": float("nan")}, "gray_p=nan"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        ViewOptions(**parameters)


def test_float_images_are_refused(images):
    with pytest.raises(ValueError, match=r"float32; expected torch\.uint8"):
        view()(images.float())


# normalization


def test_normalisation_subtracts_the_mean_and_divides_by_the_deviation(images):
    got = eval_transform()(images)
    expected = TF.normalize(images / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(Normalize()(images / 255), expected)


def test_normalisation_adds_nothing_to_a_checkpoint():
    assert Normalize().state_dict() == {}


@pytest.mark.parametrize("std", [(0.2, 0.2), (0.2, 0.0, 0.2)])
def test_normalisation_of_other_shapes_or_zero_deviation_is_refused(std):
    with pytest.raises(ValueError, match="as many of each"):
        Normalize(std=std)
