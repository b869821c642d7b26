"""The page as a whole: that it can be sent, opened and read, and that its numbers are those of the files."""

import base64
import re
import shutil
from io import BytesIO
from itertools import islice

import pytest
import torch
from PIL import Image

from data_process.errors import RunError
from engine.log import read_log
from engine.spread import clip_spread
from launch import cli
from launch.demo import keep
from launch.evaluate import evaluation_clips, open_subject
from launch.report import write as write_module
from launch.report.charts import number
from launch.report.look import look_at
from launch.report.neighbours import neighbours, stored_frames
from launch.report.runs import read_runs
from launch.report.write import SECTIONS, write_report
from launch.results import read_results
from pipelines.evaluation import evaluation_batches
from tests.launch.report.page import Page

EVERYTHING = "no nearest neighbours, embedding, similarity over time, confusion, attention over time, inputs"


@pytest.mark.parametrize("which", ["page", "both"])
def test_the_page_needs_nothing_but_itself(which, request):
    page = request.getfixturevalue(which)
    assert len(page.bytes) < 5_000_000
    assert {name for name, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "base"} == set()
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("src", "srcset", "href", "data", "action", "poster", "background"):
            place = attributes.get(key, "#measures")
            assert place.startswith("data:image/") or place.removeprefix("#") in ids, (name, place[:80])
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    assert "@import" not in style
    assert "url(" not in page.text
    assert not re.search(r"(https?:)?//\w+\.\w+", re.sub(r"base64,[\w+/=]+", "", page.text))


@pytest.mark.parametrize("which", ["page", "both"])
def test_every_picture_says_what_it_shows(which, request):
    page = request.getfixturevalue(which)
    images, drawings = page.named("img"), page.named("svg")
    assert len(images) > 15
    assert all(len(one["alt"]) > 4 for one in images)
    shown = [one for one in drawings if one.get("aria-hidden") != "true"]
    assert len(shown) > 10
    assert all(one["role"] == "img" and len(one["aria-label"]) > 10 for one in shown)


def test_the_page_is_marked_for_people_and_browsers(page):
    assert page.bytes.startswith(b"<!DOCTYPE html>")
    assert page.named("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")
    assert "prefers-color-scheme: dark" in page.text
    assert len(page.named("h1")) == 1
    anchors = [one["href"] for one in page.named("a")]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{name}" for name in ("measures", "curves", "speed", "neighbours", "embedding", "confusion")} <= set(
        anchors
    )
    assert {f"#{name}" for name in ("attention", "inputs", "settings")} <= set(anchors)


def test_a_run_with_everything_has_every_section_and_misses_none(page):
    assert page.sections == ["measures", "curves", "speed", *SECTIONS, "settings"]


def test_what_stands_in_a_name_does_not_become_an_element(page):
    assert "judged & <odd>" in next(iter(page.table_with("retrieve@1")))
    assert "odd" not in {name for name, _ in page.elements}


def test_measures_are_those_of_the_files_with_their_controls(page, run):
    table = page.table_with("retrieve@1", "retrieve@3", "kNN", "linear probe")
    results = read_results(run)
    files = {"retrieve@1": "retrieve", "retrieve@3": "retrieve", "knn": "knn", "linear": "linear"}
    columns = {"knn": "kNN", "linear": "linear probe"}
    rows = {name: table[name] for name in ("one frame, repeated", "random network")}
    judged = next(iter(table))
    assert judged.endswith("step 4")
    for measure, file in files.items():
        column = columns.get(measure, measure)
        assert table[judged][column] == f"{results[file].judged[measure]:.1f}"
        assert rows["one frame, repeated"][column] == f"{results[file].one_frame[measure]:.1f}"
        assert rows["random network"][column] == f"{results[file].random[measure]:.1f}"
    assert table["published: iic_r3d_ucf101"]["retrieve@1"] == "36.5"
    assert table["chance, 2 classes of one size"]["kNN"] == "50.0"
    assert f"{results['knn'].judged['knn']:.1f} %" in page.text


def test_last_values_are_those_of_the_log(page, run):
    last = read_log(run / "log.jsonl")[-1]
    (column,) = {name for rows in page.tables for name in rows[0][1:] if name.endswith(", step 4")}
    table = page.table_with(column)
    assert table["total loss"][column] == number(last["losses"]["total"])
    assert table["learning rate"][column] == number(last["lr"])
    for name, value in last["metrics"].items():
        assert table[name.replace("_", " ")][column] == number(value)


def test_curves_of_both_runs_lie_in_one_chart_with_a_legend(both, run, other_run):
    charts = [one for one in both.named("svg") if one.get("aria-label", "").startswith("total loss over steps")]
    (label,) = [one["aria-label"] for one in charts]
    for path in (run, other_run):
        records = read_log(path / "log.jsonl")
        first, last = records[0], records[-1]
        assert f"{number(first['losses']['total'])} at step {first['step']}" in label
        assert f"{number(last['losses']['total'])} at step {last['step']}" in label
    assert "unjudged" in both.text
    assert "Nothing was measured yet" in both.text
    side = both.table_with("judged at", "kNN")
    knn = read_results(run)["knn"]
    told = {name.rpartition("/")[2]: row["kNN"] for name, row in side.items()}
    assert told == {
        "judged & <odd>": f"{knn.judged['knn']:.1f}",
        "judged & <odd>, one frame": f"{knn.one_frame['knn']:.1f}",
        "unjudged": "-",
    }


def test_the_matrix_counts_what_the_classifier_said(page, run):
    matrix = page.table_with("a", "b")
    counts = {row: {column: int(text or 0) for column, text in cells.items()} for row, cells in matrix.items()}
    assert sum(sum(row.values()) for row in counts.values()) == 8
    right = counts["a"]["a"] + counts["b"]["b"]
    assert 100 * right / 8 == read_results(run)["knn"].judged["knn"]
    by_class = page.table_with("videos", "kNN, %")
    for name, row in by_class.items():
        assert float(row["kNN, %"]) == pytest.approx(100 * counts[name][name] / int(row["videos"]), abs=0.05)


def test_neighbours_are_the_nearest_and_marked_right_or_wrong(page, run):
    (folder,) = read_runs([run])
    look = look_at(folder, [], most_videos=100)
    nearest = look.gallery.labels[look.nearest]
    top = 100 * float((nearest[:, 0] == look.query.labels).double().mean())
    assert top == read_results(run)["retrieve"].judged["retrieve@1"]
    alts = [one["alt"] for one in page.named("img")]
    for place in look.examples(8):
        truth = look.classes[look.query.labels[place]]
        for rank, label in enumerate(nearest[place].tolist(), start=1):
            kind = "right" if look.classes[label] == truth else "wrong"
            assert f"Neighbour {rank} of {truth}: {look.classes[label]}, {kind}" in alts
    assert torch.equal(look.similarity, look.similarity.sort(dim=1, descending=True).values)


def test_variances_are_of_the_network_and_of_its_first_weights(page, run):
    (folder,) = read_runs([run])
    look = look_at(folder, [], most_videos=100)
    table = page.table_with("within / between", "total")
    seen = look.query
    assert set(table) == {"step 4", "random network"}
    for name, clips in {"step 4": seen.clips, "random network": look.first_clips}.items():
        spread = clip_spread(clips, seen.of_video, seen.labels[seen.of_video])
        assert table[name][" within videos"] == f"{100 * spread.within_videos / spread.total:.1f} %"
        assert table[name]["total"] == f"{spread.total:.3f}"
    first = open_subject(run).untrained().eval()
    (batch,) = islice(_clips_of(look), 1)
    with torch.no_grad():
        expected = first.pooled(batch.clips[0])
    torch.testing.assert_close(look.first_clips[: len(expected)], expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(look.first_clips, seen.clips)


def _clips_of(look):
    return evaluation_batches(
        look.query.videos,
        evaluation_clips(look.config),
        config=look.subject.loaded.config.pipeline,
        indices=look.query.chosen.tolist(),
        batch_size=look.config.batch_size,
    )


def test_films_move_and_stand_still_for_those_who_want_it(page, run):
    (folder,) = read_runs([run])
    look = look_at(folder, [], most_videos=100)
    frames = stored_frames(look.query, look.examples(8)[0], 96)
    film = next(one for one in page.named("img") if one["alt"].startswith("Query"))
    shown = Image.open(BytesIO(base64.b64decode(film["src"].partition("base64,")[2])))
    assert shown.n_frames == len(frames) > 4
    assert shown.size == (int(film["width"]), int(film["height"])) == frames[0].size
    stills = page.named("source")
    assert all("prefers-reduced-motion" in one["media"] for one in stills)
    still = Image.open(BytesIO(base64.b64decode(stills[0]["srcset"].partition("base64,")[2])))
    assert getattr(still, "n_frames", 1) == 1


def test_films_get_smaller_where_there_is_less_room(run):
    (folder,) = read_runs([run])
    look = look_at(folder, [], most_videos=100)

    def drawn(budget):
        images = [one for row in neighbours(look, budget=budget) for one in row.iter("img")]
        return {int(one.get("height")) for one in images}, sum(len(one.get("src")) for one in images)

    (tall,), weight = drawn(10**9)
    (lower,), less = drawn(weight - 1)
    (lowest,), _ = drawn(0)
    assert tall > lower >= lowest
    assert less < weight


def test_the_same_run_gives_the_same_bytes(page, run, tmp_path):
    assert write_report([run], tmp_path / "again.html").read_bytes() == page.bytes


def test_classes_keep_their_shares_where_only_some_videos_are_looked_at(run, tmp_path):
    (folder,) = read_runs([run])
    look = look_at(folder, [], most_videos=6)
    assert (len(look.gallery.chosen), len(look.query.chosen)) == (6, 6)
    assert torch.bincount(look.gallery.labels).tolist() == [3, 3]
    page = Page(write_report([run], tmp_path / "few.html", most_videos=6))
    assert "6 of 16 train videos" in page.text


def test_a_run_whose_shards_are_gone_has_curves_and_says_what_is_missing(run, tmp_path):
    page = Page(write_report([run], tmp_path / "gone.html", overrides=["--data.root=nowhere"]))
    assert page.sections == ["measures", "curves", "speed", "absent", "settings"]
    (line,) = [one for one in page.items if "nowhere is not a folder" in one]
    assert f"judged & <odd>: {EVERYTHING}: nowhere" in line
    assert page.named("img") == []
    assert page.table_with("retrieve@1")["random network"]


def test_a_run_that_has_only_begun_can_be_reported(run, tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run / "config.yaml", begun)
    page = Page(write_report([begun], tmp_path / "begun.html"))
    assert page.sections == ["measures", "curves", "absent", "settings"]
    assert "No run has a log yet" in page.text
    assert any("there is no checkpoint" in one for one in page.items)


def test_a_checkpoint_that_does_not_fit_is_told_in_a_few_words(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("width: 2\n", "width: 4\n"))
    page = Page(write_report([copy], tmp_path / "report.html"))
    (line,) = [one for one in page.items if "does not fit the backbone" in one]
    assert len(line) < 600
    assert "size mismatch" in line
    assert page.table_with("kNN")


def test_a_log_of_one_record_is_a_table_and_not_a_page_of_dots(run, tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run / "config.yaml", begun)
    first, *_ = (run / "log.jsonl").read_text().splitlines()
    (begun / "log.jsonl").write_text(f"{first}\n")
    page = Page(write_report([begun], tmp_path / "begun.html"))
    assert "curves begin with the second" in page.text
    assert page.named("svg") == []
    assert page.table_with("last record")["total loss"]


def test_a_page_that_would_be_too_large_has_the_pictures_of_fewer_runs(
    run, other_run, both, tmp_path, monkeypatch, caplog
):
    whole = write_report([run, other_run], tmp_path / "whole.html", pictures=2)
    assert "absent" not in Page(whole).sections
    monkeypatch.setattr(write_module, "LARGEST", len(both.bytes) - 1000)
    page = Page(write_report([run, other_run], tmp_path / "report.html", pictures=2))
    assert "unjudged is reported without pictures" in caplog.text
    assert len(page.bytes) < len(both.bytes)
    assert len(page.named("img")) == len(both.named("img"))
    (line,) = [one for one in page.items if EVERYTHING in one]
    assert "unjudged: no nearest" in line
    assert "the page would have more than" in line


def test_of_many_runs_long_sections_are_folded_and_nothing_is_said_twice(run, tmp_path):
    copies = [tmp_path / "runs" / name for name in "abc"]
    for copy in copies:
        shutil.copytree(run, copy)
    page = Page(write_report(copies, tmp_path / "report.html", pictures=3))
    section = page.text.partition('<h2 id="attention">')[2].partition("<h2 ")[0]
    assert re.findall(r"<details( open)?[^>]*><summary>([^<]*)", section) == [
        (" open", "runs/a"),
        ("", "runs/b"),
        ("", "runs/c"),
    ]
    assert page.text.count("Grad-CAM (arXiv") == 1
    assert page.text.count("Mean cosine of the 2 clips") == 1
    assert len([one for one in page.named("img") if one["alt"].startswith("Clip of")]) == 6


def test_films_give_way_before_other_pictures_do(run, other_run, tmp_path, monkeypatch):
    whole = Page(write_report([run, other_run], tmp_path / "whole.html", pictures=2))
    monkeypatch.setattr(write_module, "LARGEST", len(whole.bytes) - 1)
    page = Page(write_report([run, other_run], tmp_path / "report.html", pictures=2))
    assert page.sections == whole.sections
    assert len(page.named("img")) == len(whole.named("img"))
    first, *_ = (one for one in page.named("img") if one["alt"].startswith("Query"))
    assert int(first["height"]) < 96


def test_a_page_that_is_too_large_without_pictures_is_refused_and_the_old_one_stays(run, tmp_path, monkeypatch):
    monkeypatch.setattr(write_module, "LARGEST", 1000)
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(RunError, match="name fewer runs"):
        write_report([run], tmp_path / "report.html", pictures=0)
    assert (tmp_path / "report.html").read_text() == "old"


def test_the_demo_keeps_its_table_and_writes_a_report_of_it(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for path in copy.glob("eval-*.json"):
        path.unlink()
    names = ("random network", "one frame, random network", "one frame, pretrained", "pretrained, step 4")
    rows = {name: {"retrieve@1": 10.0 + place, "knn": 20.0 + place} for place, name in enumerate(names)}
    page = Page(keep(copy, rows))
    assert read_results(copy)["demo"].rows == rows
    table = page.table_with("kNN")
    assert [row["kNN"] for row in table.values()][:5] == ["23.0", "22.0", "20.0", "21.0", "50.0"]
    assert len(page.named("img")) > 15


# The command.


def test_the_command_writes_beside_its_run_and_prints_where(run, tmp_path, capsys):
    copy = tmp_path / "runs" / "copy"
    shutil.copytree(run, copy)
    assert cli.main(["report", str(copy), "--pictures", "0"]) == 0
    assert capsys.readouterr().out.strip() == str(copy / "report.html")
    page = Page(copy / "report.html")
    assert "runs/copy" in page.text
    assert page.named("img") == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere is no run folder"),
        (["RUN", "RUN"], "is named twice"),
        (["RUN", "--out", "missing/x.html"], "does not exist"),
        (["RUN", "--pictures", "-1"], "--pictures -1"),
        (["RUN", "--most-videos", "0"], "--most-videos 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_paragraph_and_status_2(run, capsys, words, told):
    assert cli.main(["report", *(str(run) if word == "RUN" else word for word in words)]) == 2
    assert told in capsys.readouterr().err
