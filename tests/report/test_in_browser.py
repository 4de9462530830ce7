"""The page in a real browser, if Chromium is installed."""

from __future__ import annotations

import pytest

from tests.report.browser import CHROMIUM, Browser
from tests.report.conftest import CLASSES

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
MARK = """(async () => {
  const svg = document.querySelector('svg[data-subject="trained"]');
  svg.scrollIntoView({block: 'center', behavior: 'instant'});
  for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);  // wait for the scroll, which closes a tip
  const box = svg.querySelector('use[data-i="5"]').getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""
FAINT = r"""(() => {
  // Returns the number of texts, and the texts whose contrast with the background is below 4.5 (WCAG 2).
  const parse = (text) => {
    const numbers = text.match(/-?[\d.]+(?:e-?\d+)?/g).map(Number);
    const scale = text.startsWith("color(") ? 1 : 255;
    return [...numbers.slice(0, 3).map((v) => v / scale), numbers[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce(
    (sum, w, i) => sum + w * (c[i] <= 0.04045 ? c[i] / 12.92 : ((c[i] + 0.055) / 1.055) ** 2.4), 0.05);
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  let count = 0;
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, range = document.createRange();
    range.selectNodeContents(walk.currentNode);
    if (!walk.currentNode.textContent.trim() || !range.getBoundingClientRect().width) continue;
    let behind = [1, 1, 1];
    const around = [];
    for (let e = element; e; e = e.parentElement) around.unshift(parse(getComputedStyle(e).backgroundColor));
    for (const color of around) behind = over(color, behind);
    const style = getComputedStyle(element);
    const pair = [light(over(parse(element.closest("svg") ? style.fill : style.color), behind)), light(behind)];
    count += 1;
    if (Math.max(...pair) / Math.min(...pair) < 4.5) faint.push(walk.currentNode.textContent.trim());
  }
  return [count, faint];
})()"""
UNFOLD = "document.querySelectorAll('details').forEach((fold) => (fold.open = true))"
TIP = "document.getElementById('tip')"


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_sufficient_contrast(browser, page, scheme, media):
    browser.open(page, scheme=scheme, media=media)
    browser.evaluate(UNFOLD)
    count, faint = browser.evaluate(FAINT)
    assert count > 300 and faint == []
    browser.evaluate("document.querySelector('.confusions, .matrix td').style.color = 'rgb(128, 128, 128)'")
    assert browser.evaluate(FAINT)[1]


def test_every_focusable_element_has_a_name(browser, page):
    browser.open(page)
    browser.evaluate(UNFOLD)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    focusable = [node for node in nodes if any(p["name"] == "focusable" for p in node.get("properties", []))]
    assert len(focusable) > 30
    assert [node["role"]["value"] for node in focusable if not node.get("name", {}).get("value")] == []


@pytest.mark.parametrize(("width", "scheme"), [(375, "light"), (1280, "light"), (1280, "dark")])
def test_page_has_no_errors_and_no_horizontal_scrolling(browser, page, width, scheme):
    browser.open(page, width, 800, scheme)
    browser.evaluate(UNFOLD)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    color = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, color[4:-1].split(","))) < 128) == (scheme == "dark")
    assert browser.errors == []


def test_mark_shows_its_image_with_mouse_and_keys(browser, page):
    browser.open(page)
    assert browser.evaluate(f"{TIP}.hidden")
    browser.mouse("mouseMoved", *browser.evaluate(MARK))
    assert not browser.evaluate(f"{TIP}.hidden")
    image = browser.evaluate(f"getComputedStyle({TIP}.querySelector('.preview .thumb')).backgroundImage")
    assert image.startswith('url("data:image/')
    assert browser.evaluate(f"{TIP}.querySelectorAll('.row .thumb').length") == 5
    assert browser.evaluate(f"{TIP}.querySelector('b').textContent") in CLASSES  # text, not markup
    browser.mouse("mouseMoved", 2, 2)
    assert browser.evaluate(f"{TIP}.hidden")
    browser.evaluate("document.querySelector('svg[data-subject=trained]').focus({preventScroll: true})")
    browser.key("ArrowRight")
    first = browser.evaluate("document.querySelector('.ring').getAttribute('cx')")
    browser.key("ArrowRight")
    assert float(browser.evaluate("document.querySelector('.ring').getAttribute('cx')")) > float(first) > 0
    browser.key("Escape")
    assert browser.evaluate(f"{TIP}.hidden")
    assert browser.errors == []


def test_thumbnail_is_cut_from_its_place_in_the_sheet(browser, page):
    browser.open(page)
    style = "getComputedStyle([...document.querySelectorAll('.neighbors .thumb')].at(-1))"
    place = [int(browser.evaluate(f"{style}.getPropertyValue('{name}')")) for name in ("--column", "--row")]
    position = browser.evaluate(f"{style}.backgroundPosition").split()  # of 96 images in 10 columns
    assert [float(text.rstrip("%")) for text in position] == pytest.approx([100 * at / 9 for at in place], abs=0.01)
    assert browser.evaluate(f"{style}.backgroundSize") == "1000% 1000%"


def test_legend_button_hides_a_class(browser, page):
    browser.open(page)
    visible = "[...document.querySelectorAll('.maps use')].filter((mark) => mark.getBoundingClientRect().width).length"
    assert browser.evaluate(visible) == 2 * 96
    browser.evaluate("document.querySelector('.classes button').click()")
    assert browser.evaluate(visible) == 2 * 72
    assert browser.evaluate("document.querySelector('.classes button').ariaPressed") == "false"
    browser.evaluate("document.querySelector('.classes button').click()")
    assert browser.evaluate(visible) == 2 * 96


def test_class_table_is_not_cut_off(browser, page):
    browser.open(page)
    hidden = "[...document.querySelectorAll('.classwise > .wide')].map((one) => one.scrollWidth - one.clientWidth)"
    assert browser.evaluate("innerWidth") >= 1000 and set(browser.evaluate(hidden)) == {0}


def test_arrow_key_reads_out_a_chart_value(browser, page):
    browser.open(page)
    browser.evaluate("document.querySelector('#training svg.chart').focus()")
    browser.key("ArrowRight")
    output = "document.querySelector('#training output').textContent"
    curve = browser.evaluate("JSON.parse(document.querySelector('#training svg.chart').dataset.curves)[0]")
    assert browser.evaluate(output) == f"{curve['x'][0]}: {curve['y'][0]:.4g}"
    browser.evaluate("document.activeElement.blur()")
    assert browser.evaluate(output) == f"{curve['y'][-1]:.4g}"
    assert browser.errors == []
