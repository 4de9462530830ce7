"""Presets compared with the settings in the papers and their repositories."""

import inspect
from dataclasses import replace

import pytest
import torch

from ssl_lib.registry import PRESETS
from ssl_lib.views import ViewConfig, ViewPipeline, presets

# Per view: count, size, smallest and largest crop area, interpolation, jitter, blur_p, solarize_p
WEAK, STRONG, EVEN = (0.4, 0.4, 0.2, 0.1), (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1)
PAIR = [
    (1, 224, 0.08, 1.0, "bicubic", WEAK, 1.0, 0.0),
    (1, 224, 0.08, 1.0, "bicubic", WEAK, 0.1, 0.2),
]
OURS = ("aerial", "gray")
EXPECTED = {
    "simclr": [(2, 224, 0.08, 1.0, "bicubic", STRONG, 0.5, 0.0)],
    "byol": PAIR,
    "barlow_twins": PAIR,
    "vicreg": PAIR,
    "moco_v2": [(2, 224, 0.2, 1.0, "bilinear", EVEN, 0.5, 0.0)],
    "simsiam": [(2, 224, 0.2, 1.0, "bilinear", EVEN, 0.5, 0.0)],
    "moco_v3": [
        (1, 224, 0.2, 1.0, "bilinear", WEAK, 1.0, 0.0),
        (1, 224, 0.2, 1.0, "bilinear", WEAK, 0.1, 0.2),
    ],
    "swav": [
        (2, 224, 0.14, 1.0, "bilinear", STRONG, 0.5, 0.0),
        (6, 96, 0.05, 0.14, "bilinear", STRONG, 0.5, 0.0),
    ],
    "dino": [
        (1, 224, 0.4, 1.0, "bicubic", WEAK, 1.0, 0.0),
        (1, 224, 0.4, 1.0, "bicubic", WEAK, 0.1, 0.2),
        (8, 96, 0.05, 0.4, "bicubic", WEAK, 0.5, 0.0),
    ],
    "simclr_small": [(2, 32, 0.08, 1.0, "bicubic", EVEN, 0.0, 0.0)],
    "byol_small": [
        (1, 32, 0.08, 1.0, "bicubic", WEAK, 0.0, 0.0),
        (1, 32, 0.08, 1.0, "bicubic", WEAK, 0.0, 0.2),
    ],
    "vicreg_small": [(2, 32, 0.2, 1.0, "bicubic", WEAK, 0.0, 0.1)],
}
EXPECTED["deepcluster_v2"] = EXPECTED["swav"]
EXPECTED["ifm"], EXPECTED["nnclr"] = EXPECTED["moco_v2"], PAIR
EXPECTED["dcl"], EXPECTED["rpc"], EXPECTED["directclr"] = EXPECTED["simclr"], EXPECTED["simclr"], PAIR
EXPECTED["pcl"] = EXPECTED["moco_v2"]
EXPECTED["tico"], EXPECTED["mmcr"], EXPECTED["simdino"] = PAIR, PAIR, EXPECTED["dino"]
EXPECTED["lejepa"] = [
    (2, 224, 0.3, 1.0, "bilinear", WEAK, 0.5, 0.2),
    (6, 98, 0.05, 0.3, "bilinear", WEAK, 0.5, 0.2),
]
EXPECTED["propos"] = [(2, 224, 0.08, 1.0, "bilinear", EVEN, 0.0, 0.0)]
EXPECTED["supcon"] = [(2, 224, 0.2, 1.0, "bilinear", EVEN, 0.0, 0.0)]
EXPECTED["contrastive_clustering"] = [(2, 224, 0.08, 1.0, "bilinear", STRONG, 0.5, 0.0)]
VISREG = ViewConfig(count=4, crop_scale=(0.3, 1.0), interpolation="bicubic", jitter=WEAK, solarize_p=0.2, blur_kernel=9)
LISTED = {
    "visreg": [VISREG, replace(VISREG, count=6, size=96, crop_scale=(0.05, 0.3))],
    "w_mse": [ViewConfig(count=2, crop_scale=(0.2, 1.0), interpolation="bicubic", grayscale_p=0.1, blur_p=0.0)],
    "sela": [ViewConfig(jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, grayscale_p=0.2, blur_p=0.0)],
    "clusterfit": [ViewConfig(jitter=(0.4, 0.4, 0.4, 0.2), jitter_p=1.0, grayscale_p=0.0, blur_p=0.0)],
    "moco_v1": [ViewConfig(count=2, crop_scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, blur_p=0.0)],
    "ressl": [
        ViewConfig(crop_scale=(0.2, 1.0), jitter=EVEN, jitter_p=0.8, grayscale_p=0.2, blur_p=0.5),
        ViewConfig(crop_scale=(0.2, 1.0), jitter_p=0.0, grayscale_p=0.0, blur_p=0.0),
    ],
    "pirl": [
        ViewConfig(crop_scale=(0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0.2), jitter_p=1.0, blur_p=0.0),
        ViewConfig(crop_scale=(0.6, 1.0), jitter=(0.4, 0.4, 0.4, 0.2), jitter_p=1.0, blur_p=0.0),
    ],
    "yadim": [
        ViewConfig(
            count=2,
            size=128,
            crop_scale=(0.3, 1.0),
            crop_ratio=(0.7, 1.4),
            interpolation="bicubic",
            jitter=EVEN,
            grayscale_p=0.25,
            blur_p=0.0,
        )
    ],
}
"""Presets whose other probabilities differ from those of all presets in `EXPECTED`."""
PRETEXT = {"rotation": (224, 0.0), "jigsaw": (225, 0.3), "vcreg": (224, 0.0), "deepcluster": (224, 0.0)}
"""Size and probability of gray; one view without other changes of color."""
SINGLE = {"instance_discrimination": "moco_v1"}
"""One view with the settings of both views of another preset."""
SQUARES = {"relative_location": (432, 0.41, 1.0, 0.0), "colorization": (176, 0.47, 0.47, 0.5)}
"""Size, crop scale and probability of a flip; one square view without changes of color."""


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_preset_equals_the_reference_settings(name):
    expected = [
        ViewConfig(
            count=count,
            size=size,
            crop_scale=(low, high),
            crop_ratio=(0.75, 4 / 3),
            interpolation=interpolation,
            flip_p=0.5,
            jitter=jitter,
            jitter_p=0.8,
            grayscale_p=0.2,
            blur_p=blur_p,
            blur_sigma=(0.1, 2.0),
            solarize_p=solarize_p,
            solarize_threshold=0.5,
        )
        for count, size, low, high, interpolation, jitter, blur_p, solarize_p in EXPECTED[name]
    ]
    assert PRESETS[name]() == expected


@pytest.mark.parametrize("name", LISTED)
def test_preset_equals_the_listed_settings(name):
    assert PRESETS[name]() == LISTED[name]


@pytest.mark.parametrize("name", PRETEXT)
def test_views_of_pretext_tasks_are_cropped_and_flipped_alone(name):
    size, gray = PRETEXT[name]
    (view,) = PRESETS[name]()
    assert (view.count, view.size, view.grayscale_p, view.flip_p) == (1, size, gray, 0.5)
    assert (view.jitter_p, view.blur_p, view.solarize_p) == (0, 0, 0)


@pytest.mark.parametrize("name", SINGLE)
def test_single_view_has_the_settings_of_a_preset_with_two(name):
    assert PRESETS[name]() == [replace(view, count=1) for view in PRESETS[SINGLE[name]]()]


@pytest.mark.parametrize("name", SQUARES)
def test_square_views_of_pretext_tasks_equal_the_reference_settings(name):
    size, low, high, flip = SQUARES[name]
    colors = {"jitter_p": 0.0, "grayscale_p": 0.0, "blur_p": 0.0}
    assert PRESETS[name]() == [
        ViewConfig(size=size, crop_scale=(low, high), crop_ratio=(1.0, 1.0), flip_p=flip, **colors)
    ]


def test_every_preset_is_registered_and_public_and_names_its_source():
    assert set(PRESETS) == set(presets.__all__) == {*EXPECTED, *LISTED, *PRETEXT, *SINGLE, *SQUARES, *OURS}
    for name in PRESETS:
        assert PRESETS[name] is getattr(presets, name)
        sources = ("Not from a paper.",) if name in OURS else (".py", ".yaml", ".md", "arXiv:")
        assert any(source in PRESETS[name].__doc__ for source in sources)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("channels", [1, 3, 12])
def test_presets_without_a_paper_accept_any_number_of_channels(name, channels):
    images = torch.randint(256, (5, channels, 28, 28), dtype=torch.uint8)
    views = ViewPipeline(PRESETS[name](size=20), [0.5], [0.25])(images)
    assert [view.shape for view in views.large] == [(5, channels, 20, 20)] * 2


def test_aerial_views_have_all_eight_orientations_equally_often():
    square = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    square[..., 0, 1] = 255  # a mark that every flip or turn moves
    plain = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "jitter_p": 0.0, "blur_p": 0.0}
    configs = [replace(view, **plain) for view in PRESETS["aerial"](size=8)]
    views = ViewPipeline(configs, [0.0], [1.0])(square.expand(4000, 1, 8, 8), torch.Generator().manual_seed(0))
    positions, counts = views.large[0].flatten(1).argmax(1).unique(return_counts=True)
    assert positions.tolist() == [1, 6, 8, 15, 48, 55, 57, 62]
    assert (counts - 500).abs().max() < 4 * (500 * 7 / 8) ** 0.5


@pytest.mark.parametrize("name", sorted({*EXPECTED, *LISTED}))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_preset_works_at_small_sizes(name, channels):
    multi_crop = {"small_size": 16} if "small_size" in inspect.signature(PRESETS[name]).parameters else {}
    configs = PRESETS[name](size=28, **multi_crop)
    images = torch.randint(256, (5, channels, 28, 28), dtype=torch.uint8)
    views = ViewPipeline(configs, [0.5], [0.25])(images)
    counts = {size: sum(config.count for config in configs if config.size == size) for size in (28, 16)}
    assert [view.shape for view in views.large] == [(5, channels, 28, 28)] * counts[28] and counts[28] in (1, 2, 4)
    assert [view.shape for view in views.small] == [(5, channels, 16, 16)] * counts[16]
    assert all(view.isfinite().all() for view in (*views.large, *views.small))


def test_preset_arguments_change_the_views():
    assert presets.moco_v3(crop_min=0.08)[1].crop_scale == (0.08, 1.0)
    assert len(presets.dino(size=32, small_count=0)) == 2
    first, second, small = presets.dino(size=64, small_size=32, small_count=4, scale_split=0.25)
    assert first.crop_scale == second.crop_scale == (0.25, 1.0)
    assert (small.crop_scale, small.count, small.size) == ((0.05, 0.25), 4, 32)
    assert [view.count for view in presets.mmcr(count=8)] == [4, 4]
    assert [view.count for view in presets.w_mse(count=4)] == [4]


def test_odd_number_of_views_of_mmcr_raises_an_error():
    with pytest.raises(ValueError, match="count must be even and at least 2, got 3"):
        presets.mmcr(count=3)


@pytest.mark.parametrize("name", ["dino", "swav"])
def test_small_size_not_below_size_raises_an_error(name):
    with pytest.raises(ValueError, match=r"small_size must be less than .* 32, got 96; use 14 to keep"):
        PRESETS[name](size=32)
