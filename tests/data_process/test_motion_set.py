"""Motion sets on disk: the same bytes however they are made, and nothing in one frame that tells the class."""

import errno
import hashlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from data_process import motion_set
from data_process.errors import InputError, RunError
from data_process.ffmpeg import executable
from data_process.motion_poses import CLASSES, MOTIONS
from data_process.motion_set import MotionSetConfig, MotionVideo, encode_command, write_motion_set
from data_process.motion_world import LEVELS, render

SMALL = MotionSetConfig(videos=9, test_videos=3, seed=5, size=32, frames=10)


def digests(root):
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.mp4")}


def decoded(path, size):
    command = [executable(), "-nostdin", "-v", "error", "-threads", "1", "-i", str(path)]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(pixels, np.uint8).reshape(-1, size, size, 3)


def encode(frames, path, change=lambda command: command):
    subprocess.run(change(encode_command(path, frames.shape[1])), input=frames.tobytes(), check=True)
    return decoded(path, frames.shape[1])


# Writing.


def test_the_same_bytes_come_out_for_any_number_of_jobs(tmp_path):
    assert write_motion_set(tmp_path / "one", SMALL, jobs=1) == 12
    write_motion_set(tmp_path / "three", SMALL, jobs=3)
    assert digests(tmp_path / "one") == digests(tmp_path / "three")


def test_videos_lie_in_split_and_class_folders_with_label_number_mod_8(tmp_path):
    write_motion_set(tmp_path, SMALL)
    expected = {f"train/{CLASSES[number % 8]}/{number:05d}.mp4" for number in range(9)}
    expected |= {f"test/{CLASSES[number % 8]}/{number:05d}.mp4" for number in range(3)}
    assert set(digests(tmp_path)) == expected
    assert {path.name for path in tmp_path.iterdir()} == {"train", "test", motion_set.SETTINGS_FILE}


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    write_motion_set(tmp_path / "small", SMALL)
    write_motion_set(tmp_path / "large", replace(SMALL, videos=12))
    assert digests(tmp_path / "small").items() <= digests(tmp_path / "large").items()


def test_an_interrupted_run_is_finished_by_the_same_command(tmp_path, monkeypatch):
    write_motion_set(tmp_path / "whole", SMALL)
    replaced = []

    def full_after_four(source, target):
        if len(replaced) == 5:  # the settings and four videos
            raise OSError(errno.ENOSPC, "No space left on device")
        replaced.append(target)
        os.rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(motion_set.os, "replace", full_after_four)
        with pytest.raises(RunError, match="No space left"):
            write_motion_set(tmp_path / "broken", SMALL, jobs=1)
    assert len(digests(tmp_path / "broken")) == 4
    assert write_motion_set(tmp_path / "broken", SMALL) == 8
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "broken").iterdir()} == {"train", "test", motion_set.SETTINGS_FILE}
    assert write_motion_set(tmp_path / "broken", SMALL) == 0


def test_a_failing_ffmpeg_ends_the_run_with_its_message(tmp_path, monkeypatch):
    monkeypatch.setattr(motion_set, "encode_command", lambda path, size: ["sh", "-c", "echo bad codec >&2; exit 3"])
    # Several may have failed before the first failure is heard of, and either may be the one that is told.
    with pytest.raises(RunError, match=r"train/\w+/0000\d\.mp4 .*exit status 3.*bad codec"):
        write_motion_set(tmp_path, SMALL, jobs=1)


def test_a_set_of_other_settings_is_refused_and_kept(tmp_path):
    write_motion_set(tmp_path, SMALL)
    before = digests(tmp_path)
    with pytest.raises(InputError, match=r"seed 5 \(now 6\)"):
        write_motion_set(tmp_path, replace(SMALL, seed=6))
    assert digests(tmp_path) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_motion_set(tmp_path, SMALL)
    with pytest.raises(InputError, match="is a file"):
        write_motion_set(tmp_path / "thesis.txt", SMALL)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_damaged_settings_are_refused(tmp_path, text):
    (tmp_path / motion_set.SETTINGS_FILE).write_text(text)
    with pytest.raises(InputError, match="delete the folder"):
        write_motion_set(tmp_path, SMALL)


def test_settings_are_readable(tmp_path):
    write_motion_set(tmp_path, SMALL)
    found = json.loads((tmp_path / motion_set.SETTINGS_FILE).read_text())
    assert found["seed"] == 5
    assert found["classes"] == list(CLASSES)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"videos": -1}, "--videos"),
        ({"videos": 0, "test_videos": 0}, "--videos"),
        ({"seed": -1}, "--seed"),
        ({"level": "easy"}, "--level"),
        ({"size": 33}, "--size"),
        ({"size": 16}, "--size"),
        ({"frames": 1}, "--frames"),
    ],
)
def test_a_wrong_setting_is_named(wrong, named):
    with pytest.raises(InputError, match=named):
        MotionSetConfig(**wrong)


def test_no_jobs_is_refused(tmp_path):
    with pytest.raises(InputError, match="--jobs"):
        write_motion_set(tmp_path, SMALL, jobs=0)


# A frame is coded alone: what came before or comes after cannot show in it.


@pytest.mark.parametrize("level", LEVELS)
def test_a_frame_in_its_video_is_the_frame_coded_alone(tmp_path, level):
    item = MotionVideo("train", 0)
    frames = render(3, split="train", number=0, motion=item.motion, level=LEVELS[level], size=64, num_frames=12)
    together = encode(frames, tmp_path / "together.mp4")
    assert len(together) == 12
    assert np.abs(together.astype(int) - frames).mean() < 12  # the picture survives the codec
    for number in (0, 5, 11):
        alone = encode(frames[number : number + 1], tmp_path / "alone.mp4")
        np.testing.assert_array_equal(alone[0], together[number])


def test_groups_of_pictures_would_be_found_out(tmp_path):
    def predict(command):
        command[command.index("-g") + 1] = "12"
        return command

    frames = render(3, split="train", number=0, motion="line", level=LEVELS["default"], size=64, num_frames=12)
    together = encode(frames, tmp_path / "together.mp4", predict)
    alone = encode(frames[11:], tmp_path / "alone.mp4", predict)
    assert (alone[0] != together[11]).any()


# Leakage, on decoded files: 480 training and 320 test videos, 8 classes.

LEAKAGE = MotionSetConfig(videos=480, test_videos=320, seed=5, size=32, frames=48)
CHANCE = 1 / 8
STANDARD_ERROR = (CHANCE * (1 - CHANCE) / LEAKAGE.test_videos) ** 0.5  # 1.8 points
AT_CHANCE = CHANCE + 3 * STANDARD_ERROR
OWN, OTHERS = LEAKAGE.test_videos / 8, LEAKAGE.test_videos * 7 / 8
# Area under the curve of one class against the others; 3.5 errors, since the worst of eight classes is looked at.
# It finds a leak in one class, which moves the accuracy over all eight by a few points only.
AREA_AT_CHANCE = 0.5 + 3.5 * ((OWN + OTHERS + 1) / (12 * OWN * OTHERS)) ** 0.5


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Decoded videos (N, T, S, S, 3) uint8, training first, and their labels (N,)."""
    root = tmp_path_factory.mktemp("motion")
    write_motion_set(root, LEAKAGE, jobs=2)
    with ThreadPoolExecutor(2) as pool:
        frames = list(pool.map(lambda item: decoded(root / item.path, LEAKAGE.size), LEAKAGE.items))
    return np.stack(frames), labels()


def labels():
    return np.array([CLASSES.index(item.motion) for item in LEAKAGE.items])


def split_in_two(values):
    return values[: LEAKAGE.videos], values[LEAKAGE.videos :]


def features(frames):
    """What a picture shows: coarse brightness, noise by place and sorted, quantiles, spectrum; (N, D)."""
    grey = frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    around = sum(np.roll(grey, shift, axis) for shift in (-1, 1) for axis in (1, 2)) / 4
    rough = cells(np.abs(grey - around))
    quantiles = np.quantile(grey.reshape(len(grey), -1), np.linspace(0, 1, 15), axis=1).T
    spectrum = np.log1p(np.abs(np.fft.rfft2(grey - grey.mean(axis=(1, 2), keepdims=True))))
    return np.concatenate(
        [cells(grey), rough, np.sort(rough, axis=1), quantiles, spectrum.reshape(len(grey), -1)], axis=1
    )


def cells(grey):
    return grey.reshape(len(grey), 8, 4, 8, 4).mean(axis=(2, 4)).reshape(len(grey), -1)


def read_classes(pictures, classes):
    """Test accuracy, and area under the curve of the worst hidden class, for two classifiers of one picture a video."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (training, test), (known, wanted) = split_in_two(features(pictures)), split_in_two(classes)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=300))
    trees = ExtraTreesClassifier(200, min_samples_leaf=3, random_state=0)
    accuracy, area = {}, {}
    for name, model in (("linear", linear), ("trees", trees)):
        chances = model.fit(training, known).predict_proba(test)
        accuracy[name] = np.mean(chances.argmax(axis=1) == wanted)
        areas = (roc_auc_score(wanted == label, chances[:, label]) for label in range(len(CLASSES)))
        area[name] = max(areas)
    return accuracy, area


def drawn_frame(frames):
    numbers = np.random.default_rng(0).integers(frames.shape[1], size=len(frames))
    return frames[np.arange(len(frames)), numbers]


ONE_FRAME = {
    "first": lambda frames: frames[:, 0],
    "middle": lambda frames: frames[:, frames.shape[1] // 2],
    "last": lambda frames: frames[:, -1],
    "drawn": drawn_frame,
}


@pytest.mark.slow
@pytest.mark.parametrize("which", ONE_FRAME)
def test_one_frame_says_nothing_about_the_class(videos, which):
    frames, classes = videos
    accuracy, area = read_classes(ONE_FRAME[which](frames), classes)
    assert max(accuracy.values()) < AT_CHANCE, accuracy
    assert max(area.values()) < AREA_AT_CHANCE, area


@pytest.mark.slow
def test_the_mean_of_all_frames_shows_the_class(videos):
    frames, classes = videos
    accuracy, _ = read_classes(frames.mean(axis=1), classes)
    assert min(accuracy.values()) > 0.4, accuracy


def pictures_without_codec(num_frames=2):
    """The first frames of every video, (N, T, S, S, 3) uint8."""
    level = LEVELS[LEAKAGE.level]
    return np.stack(
        [
            render(
                LEAKAGE.seed, split=item.split, number=item.number, motion=item.motion,
                level=level, size=LEAKAGE.size, num_frames=num_frames,
            )
            for item in LEAKAGE.items
        ]
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("motion", "bias"),
    [
        ("pulse", lambda poses: replace(poses, log_size=np.maximum(poses.log_size, 0.6))),
        ("shuttle", lambda poses: replace(poses, y=poses.y / 4)),
        ("spin", lambda poses: replace(poses, angle=poses.angle / 8)),
    ],
    ids=["a pulse that is large at first", "a shuttle in the upper part", "a spin that starts upright"],
)
def test_a_biased_pose_in_one_class_of_eight_would_be_found_out(monkeypatch, motion, bias):
    fair = MOTIONS[motion]
    monkeypatch.setitem(MOTIONS, motion, lambda still, draw, frame: bias(fair(still, draw, frame)))
    _, area = read_classes(pictures_without_codec()[:, 0], labels())
    assert max(area.values()) > AREA_AT_CHANCE, area


@pytest.mark.slow
def test_a_blink_smeared_over_a_frame_would_be_found_out():
    frames = pictures_without_codec(num_frames=6)
    blinking = labels() == CLASSES.index("blink")
    pictures = frames[:, 0].astype(np.float32)
    pictures[blinking] = frames[blinking].mean(axis=1)
    _, area = read_classes(pictures, labels())
    assert max(area.values()) > AREA_AT_CHANCE, area


def untrained_features(frames_NHWC, seed):
    """Features (N, 1024) that a small random 3-D network gives clips of one frame repeated four times."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    layers = []
    for channels_in, channels, stride in ((3, 16, (1, 2, 2)), (16, 32, 2), (32, 64, 2)):
        layers += [nn.Conv3d(channels_in, channels, 3, stride=stride, padding=1), nn.BatchNorm3d(channels), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool3d((1, 4, 4)), nn.Flatten())
    clips = torch.from_numpy(frames_NHWC.astype(np.float32) / 255).permute(0, 3, 1, 2)[:, :, None]
    with torch.no_grad():
        return network(clips.expand(-1, -1, 4, -1, -1)).numpy()


def knn_accuracy(values, classes):
    """Ten neighbours by cosine after taking out the training mean, weighted by exp(similarity / 0.07)."""
    (training, test), (known, wanted) = (
        split_in_two(values - values[: LEAKAGE.videos].mean(axis=0)),
        split_in_two(classes),
    )
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (test, training)]
    similarity = unit[0] @ unit[1].T
    nearest = np.argsort(-similarity, axis=1)[:, :10]
    votes = np.zeros((len(test), len(CLASSES)))
    weights = np.exp(np.take_along_axis(similarity, nearest, axis=1) / 0.07)
    for column in range(10):
        votes[np.arange(len(test)), known[nearest[:, column]]] += weights[:, column]
    return (votes.argmax(axis=1) == wanted).mean()


@pytest.mark.slow
def test_frozen_clips_of_several_times_are_no_single_frame_control_but_one_repeated_frame_is(videos):
    frames, classes = videos
    times = np.linspace(0, frames.shape[1] - 1, 5).astype(int)
    frozen = np.stack([untrained_features(frames[:, time], seed=0) for time in times])
    alone = knn_accuracy(frozen[2], classes)
    averaged = knn_accuracy(frozen.mean(axis=0), classes)
    assert alone < AT_CHANCE
    assert averaged > AT_CHANCE
