"""The parts of the report, against formulas of their own."""

from __future__ import annotations

import base64
import importlib.util
import io
import itertools
import json
import math
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ssl_lib.cli.common import bundled_configs, find_config
from ssl_lib.config.load import load_config, to_yaml
from ssl_lib.config.resolve import resolve
from ssl_lib.data import ArrayData
from ssl_lib.errors import ConfigError
from ssl_lib.evaluation import Metric, Results
from ssl_lib.report.defaults import defaults_of, recipe_source
from ssl_lib.report.html import data_script, tag
from ssl_lib.report.pictures import make_sheet
from ssl_lib.report.projection import PROJECTIONS, choose_projection, principal_components, project
from ssl_lib.report.run import Evaluation, Missing, Run
from ssl_lib.report.sections.features import singular_values
from ssl_lib.report.sections.overview import overview
from ssl_lib.report.svg import Series, line_chart, thinned
from ssl_lib.report.verdict import best_of, judge
from ssl_lib.utils.yaml import flat
from tests.report.page import Page

STYLE = (resources.files("ssl_lib.report") / "assets" / "style.css").read_text("utf-8")


def test_texts_and_attributes_are_escaped():
    inner = tag("b", "<i>&")
    assert inner == "<b>&lt;i&gt;&amp;</b>"
    assert tag("p", inner, 3, None, title='"<') == '<p title="&quot;&lt;"><b>&lt;i&gt;&amp;</b>3</p>'
    assert tag("td", ["a", ["<"]], hidden=True, id=None) == "<td hidden>a&lt;</td>"


def test_data_cannot_leave_its_script():
    value = {"</script><script>": ["<!--", "]]>", "\u2028 é &", 1.5]}
    text = data_script("x", value)
    body = re.fullmatch(r'<script type="application/json" id="x">(.*)</script>', text)[1]
    assert json.loads(body) == value
    assert not set(body) & set("<>&\u2028")
    with pytest.raises(ValueError):
        data_script("x", math.nan)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (3, 2), (1, 5)])
def test_principal_components_are_those_of_the_svd(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 3
    centerd = x.double().numpy() - x.double().numpy().mean(0)
    left, values, _ = np.linalg.svd(centerd, full_matrices=False)
    expected = (left * values)[:, :3]
    found = principal_components(x, 3).numpy()
    assert found.shape == (shape[0], 3)
    assert np.allclose(np.abs(found[:, : expected.shape[1]]), np.abs(expected), atol=1e-6)
    assert (found.max(0) >= -found.min(0) - 1e-9).all()


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_singular_values(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 3
    expected = np.linalg.svd(x.double().numpy() - x.double().numpy().mean(0), compute_uv=False)
    found = singular_values(x).numpy()
    assert np.allclose(found[: len(expected)], expected / expected[0], atol=1e-7)
    assert singular_values(torch.ones(5, 3)).abs().max() == 0


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projections_keep_two_clouds_apart(name):
    package = PROJECTIONS[name][1]
    if package is not None and importlib.util.find_spec(package) is None:
        with pytest.raises(ConfigError, match="--map pca needs no other package"):
            choose_projection(name)
        return
    x = torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    x[:30] += 8
    places = project(x, choose_projection(name))
    gap = (places[:30].mean(0) - places[30:].mean(0)).norm()
    assert places.shape == (60, 2) and gap > 2 * max(places[:30].std(0).max(), places[30:].std(0).max())


def test_an_unknown_projection_is_named():
    with pytest.raises(ConfigError, match="unknown projection 'mds'"):
        choose_projection("mds")


@pytest.mark.parametrize(("count", "channels"), [(7, 1), (5, 3), (4, 4)])
def test_a_thumbnail_lies_where_its_sheet_says(count, channels):
    pixels = torch.arange(count * channels * 6 * 6).remainder(251).byte().view(count, channels, 6, 6)
    sheet = make_sheet(ArrayData(pixels))
    picture = Image.open(io.BytesIO(base64.b64decode(sheet.uri.partition(",")[2]))).convert("RGB")
    whole = np.asarray(picture)
    assert whole.shape == (sheet.rows * 6, sheet.columns * 6, 3)
    for index in range(count):
        across, down = (float(part.removesuffix("%")) / 100 for part in sheet.position(index).split())
        left, top = round(across * (whole.shape[1] - 6)), round(down * (whole.shape[0] - 6))  # as CSS defines it
        expected = pixels[index, :3] if channels >= 3 else pixels[index].expand(3, -1, -1)
        assert np.array_equal(whole[top : top + 6, left : left + 6], expected.permute(1, 2, 0).numpy())


def test_long_curves_keep_their_extremes():
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).tolist()
    values[5000], values[7000] = 99.0, -99.0
    few = thinned(Series("a", range(10_000), values, ""))
    assert len(few.x) <= 400 and {99.0, -99.0} <= set(few.y)
    assert all(values[int(x)] == y for x, y in zip(few.x, few.y, strict=True))
    assert few.x[0] == 0 and few.x[-1] == 9999 and list(few.x) == sorted(few.x)


def test_a_curve_is_broken_where_it_is_not_finite():
    svg = line_chart([Series("a", [0, 1, 2, 3, 4], [1, 2, math.nan, 3, 5], "")], label="<x>", x_title="step")
    path = re.search(r'<path d="(M[^"]*)"></path>', svg)[1]
    assert path.count("M") == 2 and path.count("L") == 2
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", path)[1:]]
    assert points[0][0] == 46 and points[-1][0] == 350  # the frame's sides
    heights = np.array([y for _, y in points])
    assert np.allclose(heights, heights[0] + (heights[-1] - heights[0]) * (np.array([1, 2, 3, 5]) - 1) / 4, atol=0.11)
    assert 'aria-label="&lt;x&gt;"' in svg
    assert "No value" in line_chart([Series("a", [0], [math.inf], "")], label="", x_title="")


def test_noise_of_a_nearly_constant_figure_looks_small():
    svg = line_chart([Series("a", [0, 1, 2], [0.0880, 0.0881, 0.0880], "")], label="", x_title="")
    path = re.search(r'<path d="M([^"]*)"></path>', svg)[1]
    heights = [float(point.split()[1]) for point in path.split("L")]
    assert 1 < max(heights) - min(heights) < 10  # of 156 units


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0], [1e-12, 2e-12], [-5e9, 7e9]])
def test_any_range_has_an_axis(values):
    svg = line_chart([Series("a", range(len(values)), values, "")], label="", x_title="")
    assert "nan" not in svg and 1 <= svg.count('class="grid"') <= 12


def evaluation(trained, random=0.5, pixels=0.6, queries=1000, **more):
    values = {"raw pixels": {"knn": pixels}, "random init": {"knn": random}, "trained": {"knn": trained, **more}}
    return Evaluation(Results((Metric("knn", "kNN"), Metric("rank", "rank", percent=False)), values, {}), queries, 1)


@pytest.mark.parametrize(
    ("trained", "news", "words"),
    [
        (0.7, "good", "better than raw pixels and random weights"),
        (0.61, "mixed", "not clearly better than raw pixels"),
        (0.51, "bad", "It is not clearly better than raw pixels or random weights"),
        (0.4, "bad", "worse than random weights"),
        (math.nan, "none", "no accuracy to judge by"),
    ],
)
def test_the_verdict_asks_for_two_standard_errors(trained, news, words):
    verdict = judge(evaluation(trained))
    assert (verdict.news, words in verdict.headline) == (news, True)
    if news == "good":
        assert verdict.figures == "kNN 70.0\u00a0%, 10.0 above raw pixels and 20.0 above random weights."
    if trained == 0.61:  # 2 * sqrt((.61 * .39 + .6 * .4) / n) is below 0.01 from n = 19,116 on
        assert judge(evaluation(0.61, queries=19_000)).news == "mixed"
        assert judge(evaluation(0.61, queries=19_200)).news == "good"


def test_a_headline_is_short_and_hides_no_loss():
    measures = tuple(Metric(f"m{i}", f"figure {i}") for i in range(5))
    random = {measure.key: 0.5 for measure in measures}
    results = Results(measures, {"random init": random, "trained": {**random, "m0": 0.7, "m3": 0.3}}, {})
    verdict = judge(Evaluation(results, 1000, 1))
    told = ["figure 0 70.0\u00a0%, 20.0 above random weights", "figure 1 50.0\u00a0%, 0.0 above random weights"]
    assert verdict.figures == "; ".join([*told, "figure 3 30.0\u00a0%, 20.0 below random weights; 2 more below."])


@pytest.mark.parametrize(
    ("shares", "ends", "places"),
    [
        ((0.55, 0.6, 0.79), ("50 %", "80 %"), (16.67, 33.33, 96.67)),
        ((1.0, 1.0, 1.0), ("90 %", "100 %"), (100, 100, 100)),
        ((0.0, 0.0, 0.0), ("0 %", "10 %"), (0, 0, 0)),
        ((0.3, 0.5, 0.7), ("30 %", "70 %"), (0, 50, 100)),
    ],
)
def test_accuracies_are_dots_on_one_scale(shares, ends, places):
    found = evaluation(shares[2], shares[1], shares[0])
    text = Missing("not looked for")
    page = Page(overview([Run("a", Path("a"), text, text, found, text, text, text)]))
    dots = [float(a["style"][5:-1]) for _, a in page.elements if (a.get("style") or "").startswith("left:")]
    assert dots == list(places)
    assert f"{ends[0]} {ends[1]}" in page.text()


def test_the_best_of_several_runs():
    assert best_of([("a", evaluation(0.7)), ("b", evaluation(0.8))]).headline == "b is ahead"
    assert best_of([("a", evaluation(0.7)), ("b", evaluation(0.71))]).headline == "b and a are level"
    assert best_of([("a", evaluation(0.7))]) is None


MATRICES = {  # Machado, Oliveira and Fernandes 2009, of full severity, on linear RGB
    "normal": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


def linear(color: str) -> np.ndarray:
    values = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2, "contrast ratio"."""
    light, dark = sorted((linear(c) @ [0.2126, 0.7152, 0.0722] + 0.05 for c in (one, other)), reverse=True)
    return light / dark


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_are_told_apart_by_everybody(scheme):
    block = re.findall(r":root \{(.*?)\}", STYLE, flags=re.S)[scheme == "dark"]
    colors = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
    assert contrast(colors["ink"], colors["paper"]) > 12
    for text in ("soft", "accent", "good", "bad", "mixed"):
        assert contrast(colors[text], colors["paper"]) > 4.5, text
    assert min(contrast(colors["ink"], colors[shade]) for shade in ("hit", "miss")) > 4.5  # under figures
    assert min(contrast(colors[text], colors["panel"]) for text in ("ink", "soft")) > 4.5
    palette = [colors[f"c{i}"] for i in range(10)]
    assert all(contrast(color, colors["panel"]) >= 3 for color in palette)
    assert all(contrast(colors[name], colors["paper"]) >= 3 for name in ("trained", "random", "raw"))
    for name, matrix in MATRICES.items():
        seen = [lab(np.asarray(matrix) @ linear(color)) for color in palette]
        for i, j in itertools.combinations(range(10), 2):
            distance = np.linalg.norm(seen[i] - seen[j])
            assert distance > (25 if name == "normal" else 5), (name, i, j)
            assert distance > 30 or (j - i) % 5, (name, i, j)  # the same shape


@pytest.mark.parametrize("name", [name for name, _ in bundled_configs()])
def test_the_defaults_of_bundled_configs_are_those_of_their_parts(name):
    """What a bundled config does not mention is at its default; what it sets otherwise is seen."""
    path = find_config(name)
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = yaml.safe_load(to_yaml(resolve(load_config(path))))
    values, defaults = flat(config), defaults_of(config)
    changed = {key for key in defaults if key in values and values[key] != defaults[key]}
    for key in changed:
        section, _, rest = key.partition(".")
        if section.startswith("views["):
            preset = written["views"]
            assert isinstance(preset, list) or preset["preset"] != config["method"]["name"] or rest in preset
        else:
            assert section in written and (isinstance(written[section], int) or rest.split(".")[0] in written[section])
    for section in ("method", "optimizer", "backbone"):
        set_otherwise = {f"{section}.{key}" for key, value in flat(written[section]).items()} & set(defaults)
        assert {key for key in set_otherwise if values[key] != defaults[key]} == {
            key for key in changed if key.startswith(f"{section}.")
        }
    assert {f"views[{i}].flip_p" for i in range(len(config["views"]))} <= set(defaults)


def test_the_source_of_a_recipe_is_that_of_the_docstring():
    assert recipe_source({"method": {"name": "byol"}}).startswith("Grill et al. 2020, arXiv:2006.07733")
    assert recipe_source({"method": {"name": "nobody's"}}) == recipe_source({}) == ""
