"""The page in a real browser, where there is one."""

from __future__ import annotations

import pytest

from tests.report.browser import CHROMIUM, Browser
from tests.report.conftest import CLASSES

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
MARK = """(async () => {
  const svg = document.querySelector('svg[data-subject="trained"]');
  svg.scrollIntoView({block: 'center', behavior: 'instant'});
  for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);  // the scroll, which closes a tip, is over
  const box = svg.querySelector('use[data-i="5"]').getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""
TIP = "document.getElementById('tip')"


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(375, "light"), (1280, "light"), (1280, "dark")])
def test_nothing_goes_wrong_and_nothing_scrolls_sideways(browser, page, width, scheme):
    browser.open(page, width, 800, scheme)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, dark[4:-1].split(","))) < 128) == (scheme == "dark")
    assert browser.errors == []


def test_a_mark_shows_its_image_to_mouse_and_keys(browser, page):
    browser.open(page)
    assert browser.evaluate(f"{TIP}.hidden")
    browser.mouse("mouseMoved", *browser.evaluate(MARK))
    assert not browser.evaluate(f"{TIP}.hidden")
    shown = browser.evaluate(f"getComputedStyle({TIP}.querySelector('.seen .thumb')).backgroundImage")
    assert shown.startswith('url("data:image/')
    assert browser.evaluate(f"{TIP}.querySelectorAll('.row .thumb').length") == 5
    assert browser.evaluate(f"{TIP}.querySelector('b').textContent") in CLASSES  # as text, not as elements
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


def test_the_legend_hides_a_class(browser, page):
    browser.open(page)
    visible = "[...document.querySelectorAll('.maps use')].filter((mark) => mark.getBoundingClientRect().width).length"
    assert browser.evaluate(visible) == 2 * 96
    browser.evaluate("document.querySelector('.classes button').click()")
    assert browser.evaluate(visible) == 2 * 72
    assert browser.evaluate("document.querySelector('.classes button').ariaPressed") == "false"
    browser.evaluate("document.querySelector('.classes button').click()")
    assert browser.evaluate(visible) == 2 * 96


def test_a_chart_reads_out_its_values(browser, page):
    browser.open(page)
    browser.evaluate("document.querySelector('#training svg.chart').focus()")
    browser.key("ArrowRight")
    output = "document.querySelector('#training output').textContent"
    curve = browser.evaluate("JSON.parse(document.querySelector('#training svg.chart').dataset.curves)[0]")
    assert browser.evaluate(output) == f"{curve['x'][0]}: {curve['y'][0]:.4g}"
    browser.evaluate("document.activeElement.blur()")
    assert browser.evaluate(output) == f"{curve['y'][-1]:.4g}"
    assert browser.errors == []
