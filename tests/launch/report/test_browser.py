"""The page as a browser shows it, narrow and wide, light and dark; only where a Chromium is installed."""

import shutil

import pytest

from launch.report.write import write_report
from tests.launch.report.browser import NAMES, Browser, installed

OUTSIDE = """
[...document.querySelectorAll('body *')].filter(one => {
  const place = one.getBoundingClientRect();
  if (place.right <= innerWidth + 1 && place.left >= -1) return false;
  for (let parent = one.parentElement; parent; parent = parent.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(parent).overflowX)) return false;
  return !one.closest('thead');
}).map(one => `${one.tagName} ${one.className}: ${one.textContent.slice(0, 40)}`)
"""
"""What stands outside of the window and cannot be scrolled to; heads that stand in each cell instead are hidden."""

PALE = """
(() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const colour = text => text.startsWith('color(') ? numbers(text.slice(10)).map((v, i) => i < 3 ? 255 * v : v)
    : numbers(text);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const found = colour(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const found = new Set();
  for (const one of document.querySelectorAll('body *')) {
    if (![...one.childNodes].some(part => part.nodeType == 3 && part.data.trim())) continue;
    const style = getComputedStyle(one);
    const inks = one.closest('svg') ? style.fill : style.color;
    const [a, b] = [light(colour(inks)), light(ground(one))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5 && one.tagName != 'title')
      found.add(`${one.tagName} ${one.getAttribute('class')} ${ratio.toFixed(2)}`);
  }
  return [...found];
})()
"""
"""Texts whose contrast with the ground below them is less than 4.5 to 1 (WCAG 2, level AA)."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if installed() is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    try:
        made = Browser(tmp_path_factory.mktemp("profile"))
    except OSError as error:
        pytest.skip(f"{installed()} does not start here: {error}")
    yield made
    made.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_all_of_the_page_and_asks_for_nothing(browser, both, width, scheme):
    browser.requests.clear()
    browser.show(both.path, width=width, scheme=scheme)
    assert browser.value("document.images.length") == len(both.named("img"))
    assert browser.value("[...document.images].every(one => one.naturalWidth > 0)")
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OUTSIDE) == []
    assert browser.value(PALE) == []
    assert [one for one in browser.requests if not one.startswith("data:")] == [both.path.as_uri()]
    assert browser.complaints == []


def test_a_long_name_of_a_run_stays_inside_of_a_narrow_window(browser, run, tmp_path):
    copy = tmp_path / "runs" / f"iic_{'with_a_long_name_' * 4}{'x' * 50}"
    shutil.copytree(run, copy)
    browser.show(write_report([copy], tmp_path / "report.html", pictures=0), width=400)
    assert browser.value("document.documentElement.scrollWidth") <= 400
    assert browser.value(OUTSIDE) == []


def test_what_is_outside_pale_or_asked_for_would_be_found_out(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<body><div style='width: 900px; color: #ccc; background: white'>wide and pale</div>"
        "<script>console.error('no')</script><img src='nothing.png'>"
    )
    with pytest.raises(AssertionError):
        browser.show(path, width=400)  # a picture cannot be decoded
    assert [one.split()[0] for one in browser.value(OUTSIDE)] == ["DIV"]
    assert browser.value(PALE) == ["DIV null 1.61"]
    assert any(one.endswith("nothing.png") for one in browser.requests)
    assert browser.complaints
    browser.complaints.clear()
