"""What the options of several commands need to have an effect."""

from dataclasses import fields

from mgd_ssl.settings.effects import Needs
from mgd_ssl.settings.run import MGDOptions

STEM_STRIDE = Needs(
    ["network.stem_stride"],
    lambda c: c.network.stem != "imagenet",
    "on the stem imagenet",
    "say --stem small",
)


OF_CACHE = [
    Needs(
        ["teacher_cache"],
        lambda c: c.teacher.teacher is not None,
        "without a teacher",
        "name the one that it was made from: --teacher",
    ),
    Needs(
        ["cache_views"],
        lambda c: c.teacher_cache is not None,
        "without a folder for the answers",
        "name one: --teacher-cache",
    ),
]


def shared_rules(without: str, remedy: str) -> list[Needs]:
    """What the options of every training command need.

    Args:
        without: where no maps are matched, in words.
        remedy: how to match them.
    """
    teachers = ("arch", "width", "stem", "stem_stride", "size", "taps")
    options = [f"mgd.{f.name}" for f in fields(MGDOptions) if f.name != "mgd_weighing"]
    maps = [*options, "network.taps", "teacher.teacher_taps"]
    return [
        Needs(
            [f"teacher.teacher_{name}" for name in teachers],
            lambda c: c.teacher.teacher is not None,
            "without a teacher",
            "name one: --teacher",
        ),
        Needs(
            ["mgd.mgd_weighing"],
            lambda c: c.teacher.teacher is not None,
            "without a teacher",
            "name one: --teacher",
        ),
        Needs(maps, lambda c: c.teacher.teacher and c.mgd.is_matched, without, remedy),
        Needs(
            ["mgd.mgd_update_freq"],
            lambda c: c.mgd.mgd_adapter != "expand",
            "where channels are matched one to one, once",
            "say --mgd-adapter batch",
        ),
        STEM_STRIDE,
        Needs(
            ["teacher.teacher_stem_stride"],
            lambda c: c.teacher.teacher_stem != "imagenet",
            "on the stem imagenet",
            "say --teacher-stem small",
        ),
        Needs(
            ["optim.momentum", "optim.nesterov"],
            lambda c: c.optim.optimizer == "sgd",
            "with another optimizer",
            "say --optimizer sgd",
        ),
        Needs(
            ["optim.schedule"],
            lambda c: not c.optim.cos,
            "on the cosine schedule",
            "say --no-cos",
        ),
        Needs(
            ["optim.schedule"],
            lambda c: min(c.optim.schedule, default=0) < c.optim.epochs,
            "where the rate would drop after the last epoch",
            "give earlier epochs",
        ),
        *_of_views(),
    ]


def _of_views() -> list[Needs]:
    """The steps of a view that never happen."""
    jitter = [f"views.jitter_{n}" for n in ("brightness", "contrast", "saturation", "hue")]
    return [
        Needs(
            jitter,
            lambda c: not hasattr(c, "views") or c.views.jitter_p > 0,
            "with jitter_p 0",
            "give --jitter-p above 0",
        ),
        Needs(
            ["views.blur_sigma_min", "views.blur_sigma_max"],
            lambda c: not hasattr(c, "views") or c.views.blur_p > 0,
            "with blur_p 0",
            "give --blur-p above 0",
        ),
    ]
