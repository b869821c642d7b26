"""The cards at the head of the page: what is called good, and what a broken folder says."""

from itertools import pairwise

import pytest

from launch.report.charts import scale
from launch.report.glance import glance
from launch.report.runs import read_runs
from launch.results import ONE_FRAME, RANDOM, Results
from tests.launch.report.made_runs import run_with


def card(rows, videos=400, **settings):
    table = Results("step 480", "set", "train", 640, "test", videos, 8, {}, rows)
    (made,) = glance([run_with({"knn": table} if rows else {}, **settings)])
    return made


def verdicts(made):
    return [" ".join("".join(one.itertext()).split()) for one in made.iter("li")]


def test_a_card_says_of_each_control_whether_it_is_clearly_beaten():
    made = card({"x": {"knn": 61.5}, ONE_FRAME: {"knn": 12.5}, RANDOM: {"knn": 18.0}})
    assert verdicts(made) == ["✓ clearly above random network: +43.5 points", "✓ clearly above one frame: +49.0 points"]
    (scale,) = made.iter("svg")
    assert scale.get("aria-label").startswith("kNN accuracy 61.5 %, ")
    assert all(one in scale.get("aria-label") for one in ("random network 18.0", "one frame 12.5", "chance 12.5"))


@pytest.mark.parametrize(
    ("random", "videos", "told"),
    [(18.0, 400, "clearly above"), (18.0, 40, "not clearly above"), (28.0, 400, "not clearly"), (60.0, 400, "below")],
)
def test_a_gain_within_two_standard_errors_is_not_called_one(random, videos, told):
    (one,) = verdicts(card({"x": {"knn": 27.0}, RANDOM: {"knn": random}}, videos=videos))
    assert told in one
    assert ("✓" in one) == (told == "clearly above")


def test_a_card_without_controls_or_measures_says_so():
    for measure, command in (("knn", "knn"), ("retrieve@1", "retrieve"), ("top1", "test")):
        (told,) = [one for one in card({"x": {measure: 61.5}}).iter("p") if "No control was measured" in one.text]
        assert told[0].text.startswith(f"intravid {command} ")
        assert told[0].text.endswith(" --controls")
    assert "Not judged yet" in "".join(card({}).itertext())


def test_marks_of_a_scale_do_not_write_over_each_other():
    made = scale(61.5, {"random network": 18.0, "one frame": 12.6, "chance": 12.5}, "kNN")
    texts = sorted((one for one in made.iter("text")), key=lambda one: float(one.get("y")))
    heights = [float(one.get("y")) for one in texts]
    assert all(below - above >= 12 for above, below in pairwise(heights))
    # A mark's line ends at its words, and words above it begin to the right of it.
    assert [float(one.get("x")) for one in texts] == sorted((float(one.get("x")) for one in texts), reverse=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("data: null", ""), ("data: {root: null}", ""), ("data: 3", ""), ("data: {root: /x/sets/a}", "sets/a"),
     ("data: {root: [/x/sets/a, /x/sets/b]}", "sets/a, sets/b")],
)  # fmt: skip
def test_a_card_tells_the_end_of_the_place_of_the_videos(tmp_path, text, shown):
    (tmp_path / "config.yaml").write_text(text)
    (made,) = glance(read_runs([tmp_path]))
    facts = {name.text: value.text for name, value in _pairs(made)}
    assert facts.get("data", "") == shown


def _pairs(made):
    (facts,) = made.iter("dl")
    return list(zip(facts[::2], facts[1::2], strict=True))
