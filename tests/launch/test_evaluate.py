import pytest

from data_process.errors import InputError
from engine.checkpoint import latest_checkpoint
from launch import cli
from launch.evaluate import evaluate, initial_backbone, one_frame_control, open_subject
from launch.results import read_results
from pipelines import evaluation as evaluation_module
from tests.launch.runs import RECIPE, ROOT, TORCHRUN, complete, pretrain_words
from tests.sample_videos import small_dataset

SMALL = ["--eval.num_clips=2", "--eval.num_frames=4", "--eval.size=16", "--eval.resize=null", "--eval.ks=[1,3]"]


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    """A run of three steps."""
    folder = tmp_path_factory.mktemp("run")
    small = {word.partition("=")[0][2:]: word.partition("=")[2] for word in SMALL}
    assert cli.main(pretrain_words(folder, shards, {"train.steps": 3, **small})) == 0
    return folder


@pytest.mark.parametrize(
    ("command", "columns"), [("knn", ["knn"]), ("linear", ["linear"]), ("retrieve", ["retrieve@1", "retrieve@3"])]
)
def test_a_run_folder_is_judged_with_its_own_settings(run, capsys, command, columns):
    assert cli.main([command, str(run)]) == 0
    results = read_results(run)[command]
    name, *controls = results.rows
    assert controls == ([] if command == "linear" else ["one frame"])
    rows = results.rows
    assert "step 3" in name
    assert list(rows[name]) == columns
    assert all(0 <= value <= 100 for row in rows.values() for value in row.values())
    assert (results.step, results.gallery_videos, results.query_videos, results.classes) == (3, 16, 8, 2)
    assert results.settings["num_clips"] == 2
    said = capsys.readouterr().out
    assert f"{rows[name][columns[0]]:.1f}" in said
    assert "8 test videos against 16" in said


def test_controls_add_one_frame_and_a_random_network(run):
    assert cli.main(["knn", str(run), "--controls"]) == 0
    results = read_results(run)["knn"]
    assert list(results.rows)[1:] == ["one frame", "random network"]
    judged, one_frame, random = results.rows.values()
    assert (results.judged, results.one_frame, results.random) == (judged, one_frame, random)


def test_one_frame_may_be_left_out(run):
    assert cli.main(["knn", str(run), "--no-one-frame"]) == 0
    assert read_results(run)["knn"].one_frame == {}


def test_a_file_of_another_form_is_no_table(tmp_path):
    (tmp_path / "eval-knn.json").write_text('{"some run": {"knn": 3.0}}')
    with pytest.raises(InputError, match=r"eval-knn\.json is no file of measures"):
        read_results(tmp_path)


def test_a_checkpoint_may_be_named_instead_of_its_run(run):
    assert cli.main(["knn", str(latest_checkpoint(run))]) == 0


def test_a_recipe_is_judged_with_random_weights_and_says_so(shards, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["knn", str(ROOT / RECIPE), f"--data.root={shards}", "--method.backbone.width=2", *SMALL]
    assert cli.main(words) == 0
    assert "random weights" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "there is no checkpoint in nowhere"),
        (["RUN", "--eval.query=val"], "its splits are"),
        (["RUN", "--eval.num_clips=0"], "eval.num_clips must be at least 1"),
        (["RUN", "--method.backbone.width=3"], "does not fit the backbone"),
        (["RUN", "--eval.qery=test"], "did you mean eval.query?"),
        (["RUN", "--data.root=nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_paragraph_and_status_2(run, capsys, words, told):
    assert cli.main(["knn", *(str(run) if word == "RUN" else word for word in words)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("intravid: error: ")
    assert told in said[-1]


def test_a_class_that_the_query_split_alone_has_is_refused(run, tmp_path, capsys):
    fitting = small_dataset(tmp_path / "two", classes=("a", "b"), videos=9)
    assert cli.main(["knn", str(run), f"--data.root={fitting}"]) == 0
    strange = small_dataset(tmp_path / "three", classes=("a", "b", "c"), videos=9)  # class c is in the test split alone
    assert cli.main(["knn", str(run), f"--data.root={strange}"]) == 2
    assert "1 classes of the query split are not in the gallery split: c" in capsys.readouterr().err


def test_the_one_frame_control_judges_single_frames_of_six_places_apart(run, monkeypatch):
    subject = open_subject(run)
    seen = []

    def judge(backbone, videos, config, **given):
        seen.append((config.num_clips, given["frozen_frame"]))
        return {"knn": float(len(seen))}

    monkeypatch.setattr("launch.evaluate.evaluate", judge)
    control = one_frame_control(subject.backbone, (), subject.loaded.config.eval, measures=("knn",))
    assert control == {"knn": 3.5}
    assert [clips for clips, _ in seen] == [1] * 6  # several frozen clips of a video would tell what moves
    assert [place for _, place in seen] == sorted({place for _, place in seen})


@pytest.mark.slow
def test_two_ranks_measure_what_one_measures_and_all_end_well(run):
    assert cli.main(["knn", str(run)]) == 0
    alone = (run / "eval-knn.json").read_text()
    for _ in range(3):  # ranks that stayed in their group were aborted at their end every second time
        complete(["knn", run], under=TORCHRUN)
        assert (run / "eval-knn.json").read_text() == alone


def test_ranks_that_share_cores_share_the_threads_of_the_pipeline(run, monkeypatch):
    subject = open_subject(run)
    config = subject.loaded.config
    seen, make_executor = [], evaluation_module.make_executor

    def noting(*given, **options):
        seen.append(options["local_ranks"])
        return make_executor(*given, **options)

    monkeypatch.setattr(evaluation_module, "make_executor", noting)
    monkeypatch.setattr("launch.evaluate.share_cores", lambda world: 3)
    videos = (config.data.open("train"), config.data.open("test"))
    evaluate(subject.backbone, videos, config.eval, measures=("knn",))
    assert seen == [3, 3]


def test_a_repeated_frame_hides_what_clips_show(run):
    subject = open_subject(run)
    config = subject.loaded.config
    videos = (config.data.open("train"), config.data.open("test"))
    measures = {"measures": ("retrieve", "knn")}
    real = [evaluate(subject.backbone, videos, config.eval, **measures) for _ in range(2)]
    frozen = [evaluate(subject.backbone, videos, config.eval, frozen_frame=place, **measures) for place in (0.1, 0.9)]
    assert real[0] == real[1]
    assert any(one != real[0] for one in frozen)


def test_the_random_network_is_the_one_the_run_began_with(run):
    subject = open_subject(run)
    before = initial_backbone(subject.loaded).state_dict()
    again = open_subject(run)
    assert all((before[name] == value).all() for name, value in initial_backbone(again.loaded).state_dict().items())
    assert any((before[name] != value).any() for name, value in subject.backbone.state_dict().items())
