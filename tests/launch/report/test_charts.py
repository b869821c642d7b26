import math

import numpy as np
import pytest
from PIL import Image

from launch.report.animation import animated, heated, side_by_side
from launch.report.charts import Series, bars, line_chart, short, ticks
from launch.report.markup import breakable, document, narrowing_table, node, table


def polylines(figure):
    return [
        [tuple(map(float, point.split(","))) for point in one.get("points").split()] for one in figure.iter("polyline")
    ]


def test_points_lie_where_their_numbers_say():
    x, y = [10, 20, 40], [3.0, 1.0, 2.0]
    (line,) = polylines(line_chart("loss", [Series("a", 0, x, y)]))
    across, up = ([point[axis] for point in line] for axis in (0, 1))
    assert (across[1] - across[0]) * 2 == pytest.approx(across[2] - across[1], abs=0.3)
    assert (up[1] - up[0]) == pytest.approx(2 * (up[1] - up[2]), abs=0.3)  # smaller numbers stand lower
    assert up[1] > up[2] > up[0]


def test_runs_differ_in_colour_and_dash():
    figure = line_chart("loss", [Series(str(run), run, [1, 2], [0.0, run]) for run in range(6)])
    looks = {(one.get("style"), one.get("stroke-dasharray")) for one in figure.iter("polyline")}
    assert len(looks) == 6
    assert len({style for style, _ in looks}) == 6
    assert len({dash for _, dash in looks}) == 6


def test_long_logs_are_averaged_and_keep_their_ends():
    x = list(range(1, 10_001))
    y = [math.sin(step / 700) + 5 for step in x]
    figure = line_chart("loss", [Series("a", 0, x, y)])
    (line,) = polylines(figure)
    (whole,) = polylines(line_chart("loss", [Series("a", 0, x[:: len(x) - 1], y[:: len(y) - 1])]))
    assert 100 < len(line) <= 240
    assert [line[0][0], line[-1][0]] == [whole[0][0], whole[-1][0]]
    assert f"{y[-1]:.4g} at step 10000" in figure.find("svg").get("aria-label")


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [5.0, 5.0, 5.0], [-1e-9, 1e-9], [1e12, 2e12]])
def test_one_value_and_equal_ones_can_be_drawn(values):
    (line,) = polylines(line_chart("x", [Series("a", 0, list(range(len(values))), values)]))
    assert all(math.isfinite(number) and -1 < number < 400 for point in line for number in point)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.003, 0.0041), (-7, 30), (1e-9, 2e-9), (20, 480), (1e6, 3.2e6)])
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 5
    assert all(low - 1e-12 <= value <= high * (1 + 1e-9) for value in found)
    assert all(len(short(value)) <= 8 for value in found)
    assert len({short(value) for value in found}) == len(found)


def test_an_axis_may_begin_at_zero():
    series = [Series("a", 0, [1, 2], [0.90, 0.91])]
    steep, flat = (polylines(line_chart("x", series, from_zero=zero))[0] for zero in (False, True))
    assert steep[0][1] - steep[1][1] > 20 * (flat[0][1] - flat[1][1])


def test_odd_letters_stay_letters():
    page = document(node("p", 'a<b & "c"\x00\x07', class_="x", title='"><script>'))
    assert b"<script>" not in page
    assert 'a&lt;b &amp; "c"\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}'.encode() in page


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SoccerJuggling", ["Soccer", "Juggling"]),
        ("runs/iic_2-a", ["runs/", "iic_", "2-", "a"]),
        ("TV", ["TV"]),
        ("", [""]),
        ("x_", ["x_"]),
    ],
)
def test_names_are_broken_between_their_words(name, words):
    made = node("p", breakable(name))
    assert [made.text or "", *(one.tail for one in made.iter("wbr"))] == words
    assert "".join(made.itertext()) == name
    assert b"</wbr>" not in document(made)


def test_attributes_are_named_as_html_names_them():
    made = node("details", node("line", stroke_width=2), open=True, hidden=False, id=None)
    assert made.attrib == {"open": "open"}
    assert made[0].attrib == {"stroke-width": "2"}


def test_the_first_cell_of_a_row_is_its_heading():
    made = table(["", "a"], [["x", "1"], node("tr", node("td", "own"))], caption="what")
    rows = list(made.iter("tr"))
    assert [[cell.tag for cell in row] for row in rows] == [["th", "th"], ["th", "td"], ["td"]]
    assert made[0].text == "what"


def test_in_a_narrow_window_every_number_has_the_head_of_its_column():
    own = node("tr", node("th", "y", scope="row"), node("td", "missing", colspan=2))
    made = narrowing_table(["", "kNN", ["a", node("b", " c")]], [["x", "1", "-"], own], class_="more")
    (whole,) = made.iter("table")
    assert whole.get("class") == "narrowing more"
    labels = [[cell.get("data-label") for cell in row[1:]] for row in whole.iter("tr")]
    assert labels == [[None, None], ["kNN", "a c"], [None]]
    assert [cell.get("class") for cell in whole.iter("td")] == [None, "none", None]
    assert {cell.get("role") for cell in whole.iter("td")} == {"cell"}


def test_bars_are_as_high_as_their_values_and_the_largest_stands_out():
    made = list(bars([0.25, 1.0, 0.5, 1.0], "heat"))
    heights = [float(one.get("height")) - 1 for one in made]
    assert heights == pytest.approx([0.25 * 27, 27, 0.5 * 27, 27], abs=0.06)
    assert [one.get("class").endswith("peak") for one in made] == [False, True, False, True]
    ends = [(float(one.get("x")), float(one.get("x")) + float(one.get("width"))) for one in made]
    assert all(left <= 25 * place + 1 and right >= 25 * place + 24 for place, (left, right) in enumerate(ends))
    assert all(float(one.get("y")) + float(one.get("height")) == pytest.approx(30, abs=0.2) for one in made)


def test_frames_side_by_side_keep_their_order():
    colours = ["red", "lime", "blue"]
    row = side_by_side([Image.new("RGB", (4, 4), one) for one in colours], 10)
    assert row.size == (34, 10)
    assert [row.getpixel((5 + 12 * place, 5)) for place in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_heat_colours_what_is_hot_and_leaves_what_is_cold_grey():
    frame = np.full((2, 2, 3), 100, np.uint8)
    frame[..., 0] = 130
    heat = np.array([[0.0, 0.5], [1.0, 0.0]], np.float32)
    shown = heated(frame, heat)
    assert shown[0, 0].tolist() == [110, 110, 110]
    assert shown[0, 1, 0] > shown[0, 1, 1] + 50
    assert shown[1, 0, 1] > 150  # yellow
    assert shown[1, 0, 2] < 40


def test_a_film_of_one_frame_is_a_picture():
    made = animated([Image.new("RGB", (8, 8), "red")], "red")
    assert made.find("img").get("src").startswith("data:image/webp;base64,")
