"""VTDL's operations on batches of clips: as recorded from its release, and as loops over generated clips give them.

Every check takes arrays named as in ``augment_ops.npz`` and runs on both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from models.inter_mix import partners
from models.planners.frame_order import shuffled_order
from models.planners.orientations import LEGACY_ORIENTATIONS, ORIENTATIONS
from models.planners.triplet import TRIPLET, TripletPlanner
from models.triplet_changes import TripletChanges
from models.views import cut_window, oriented, reorder_chunks
from pipelines.draw import cut_sides
from tests.parity.recorded import load, vectors_root

EXACT = {"rtol": 0.0, "atol": 0.0}
ROUNDED = {"rtol": 1e-5, "atol": 1e-6}
ALPHAS = (0.1, 0.3)
SHUFFLES = {1: "frames", 2: "chunks", 3: "inside-chunks"}


@dataclass
class Noted(Mapping):
    """Arrays that remember which of them were asked for."""

    arrays: dict
    asked: set = field(default_factory=set)

    def __getitem__(self, name):
        self.asked.add(name)
        return self.arrays[name]

    def __iter__(self):
        return iter(self.arrays)

    def __len__(self):
        return len(self.arrays)


def near(ours, theirs, tolerance=ROUNDED):
    torch.testing.assert_close(ours, torch.as_tensor(theirs), **tolerance)


def anchor(clips, targets, **settings):
    """What becomes of anchors (B, C, T, H, W) with some draws, where nothing else is on than is asked for."""
    legacy = {name: settings.pop(name) for name in ("reuse_mixed", "shared_draws") if name in settings}
    planner = TripletPlanner(num_frames=clips.shape[2], **{"mix_strength": 0.0, **settings})
    blank = torch.zeros_like(clips)
    made = TripletChanges(planner, TRIPLET, **legacy)((clips, blank, blank), targets)
    assert made.keys() == {"anchor"}
    return made["anchor"]


def check_own_stills(z):
    clips = torch.from_numpy(z["x"])
    for alpha in ALPHAS:
        frame, weight = torch.from_numpy(z[f"tca_alpha{alpha}_frame"]), float(z[f"tca_alpha{alpha}_lambda"])
        assert 0 <= weight < alpha
        targets = {"mix_frame": frame, "mix_weight": torch.full((len(clips),), weight)}
        near(anchor(clips, targets, mix_strength=alpha), z[f"tca_alpha{alpha}_out"])


def check_stills_of_others(z):
    clips, partner, frame = (torch.from_numpy(z[name]) for name in ("x", "intermix_perm", "intermix_frame"))
    # The release says which frame each clip takes, our plans which one it gives: the same, seen from the giver.
    given, places = torch.empty_like(frame), torch.empty(len(frame), dtype=torch.float64)
    given[partner] = frame
    places[partner] = torch.arange(len(frame), dtype=torch.float64) / len(frame)
    assert torch.equal(partners(places), partner)
    targets = {
        "inter_frame": given,
        "inter_place": places,
        "inter_weight": torch.full((len(clips),), float(z["intermix_lambda"])),
    }
    as_coded = anchor(clips, targets, inter_mix_strength=0.3, reuse_mixed=True)
    near(as_coded, z["intermix_out_as_coded_inplace"])
    apart = anchor(clips, targets, inter_mix_strength=0.3)
    for b, (other, taken) in enumerate(zip(partner.tolist(), frame.tolist(), strict=True)):
        weight = float(z["intermix_lambda"])
        near(apart[b], (1 - weight) * clips[b] + weight * clips[other, :, taken].unsqueeze(1))
        assert torch.allclose(apart[b], as_coded[b]) == (other >= b), "only earlier partners are mixed already"


def check_windows(z):
    clips = torch.from_numpy(z["x"])
    (top, bottom), (left, right) = z["cut_rows"].tolist(), z["cut_cols"].tolist()
    targets = {"cut_window": torch.tensor([[top, bottom, left, right]]).expand(len(clips), -1)}
    near(anchor(clips, targets, cut_share=float(z["cut_prob"])), z["cut_out"], EXACT)
    near(cut_window(clips, targets["cut_window"]), z["cut_out"], EXACT)
    # The draws of the release: share, a frame that is not used, row, column.
    generator = np.random.RandomState(int(z["np_seed"]))
    share = generator.beta(1, 1) * float(z["cut_prob"])
    assert share == pytest.approx(float(z["cut_lambda"]), rel=1e-12)
    _, *centre = (generator.randint(side) for side in clips.shape[2:])
    sides = [cut_sides(place, side=side, share=share) for place, side in zip(centre, clips.shape[3:], strict=True)]
    assert (sides[0][1] - sides[0][0]) * (sides[1][1] - sides[1][0]) == (bottom - top) * (right - left)
    if bottom > top and right > left:
        assert sides == [(top, bottom), (left, right)]


class TorchPermutations:
    """Gives the permutations that the release's generator gives."""

    def __init__(self, seed):
        self._generator = torch.Generator().manual_seed(seed)

    def permutation(self, count):
        return torch.randperm(count, generator=self._generator).numpy()


def check_orders(z):
    clips = torch.from_numpy(z["x"])
    for number, how in SHUFFLES.items():
        order = z[f"tshuffle_s{number}_order"]
        assert shuffled_order(TorchPermutations(int(z["np_seed"])), len(order), how).tolist() == order.tolist()
        shown = reorder_chunks(clips, torch.from_numpy(order).expand(len(clips), -1))
        assert torch.equal(shown, clips[:, :, order])


def check_orientations(z):
    clip = torch.from_numpy(z["rot_x"])
    for number, ways, name in (
        (4, ORIENTATIONS, "rot4_out"),
        (8, ORIENTATIONS, "rot8_out"),
        (16, LEGACY_ORIENTATIONS, "aug16_out_as_coded"),
    ):
        ours = oriented(clip.expand(number, -1, -1, -1, -1), torch.arange(number), ways[number])
        near(ours, z[name], EXACT)


CHECKS = {
    "own stills": check_own_stills,
    "stills of others": check_stills_of_others,
    "windows": check_windows,
    "orders": check_orders,
    "orientations": check_orientations,
}


def recorded():
    path = vectors_root() / "vtdl" / "augment_ops.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} of VTDL was recorded elsewhere: INTRAVID_VECTORS names the folder")
    return load(path)


def generated():
    """The same arrays of other clips, made by loops that say what the release does."""
    seed, rng = 4, np.random.default_rng(0)
    x = rng.standard_normal((6, 3, 8, 12, 9)).astype(np.float32)
    z = {"x": x, "np_seed": np.array(seed)}
    for alpha in ALPHAS:
        weight, frames = alpha * rng.random(), rng.integers(0, 8, 6)
        out = np.stack([(1 - weight) * clip + weight * clip[:, [f]] for clip, f in zip(x, frames, strict=True)])
        z |= {f"tca_alpha{alpha}_lambda": np.array(weight), f"tca_alpha{alpha}_frame": frames}
        z[f"tca_alpha{alpha}_out"] = out.astype(np.float32)
    mixed, partner, frames, weight = x.copy(), np.array([3, 0, 2, 5, 1, 4]), rng.integers(0, 8, 6), 0.27
    for b in range(6):
        mixed[b] = (1 - weight) * mixed[b] + weight * mixed[partner[b]][:, [frames[b]]]
    z |= {"intermix_lambda": np.array(weight), "intermix_perm": partner, "intermix_frame": frames}
    z["intermix_out_as_coded_inplace"] = mixed
    draws = np.random.RandomState(seed)
    share = draws.beta(1, 1) * 0.3
    _, row, column = draws.randint(8), draws.randint(12), draws.randint(9)
    tall, wide = int(12 * share**0.5) // 2, int(9 * share**0.5) // 2
    rows, columns = (max(0, row - tall), min(12, row + tall)), (max(0, column - wide), min(9, column + wide))
    cut = x.copy()
    cut[..., rows[0] : rows[1], columns[0] : columns[1]] = 0
    assert (cut == 0).any()
    z |= {"cut_prob": np.array(0.3), "cut_lambda": np.array(share), "cut_out": cut}
    z |= {"cut_rows": np.array(rows), "cut_cols": np.array(columns)}
    return z | generated_orders(seed) | generated_orientations(rng)


def generated_orders(seed):
    one, four, inside = (torch.Generator().manual_seed(seed) for _ in range(3))
    pairs = [torch.randperm(2, generator=inside).tolist() for _ in range(4)]
    return {
        "tshuffle_s1_order": torch.randperm(8, generator=one).numpy(),
        "tshuffle_s2_order": np.array([2 * c + k for c in torch.randperm(4, generator=four).tolist() for k in (0, 1)]),
        "tshuffle_s3_order": np.array([2 * c + k for c, pair in enumerate(pairs) for k in pair]),
    }


def generated_orientations(rng):
    clip = rng.standard_normal((1, 2, 4, 5, 5)).astype(np.float32)
    turned = [np.rot90(clip[0], turns, axes=(2, 3)) for turns in range(4)]
    down, mirror = clip[0][:, :, ::-1], clip[0][..., ::-1]
    eight = [down, mirror, *turned[1:], *(np.rot90(one, axes=(2, 3)) for one in (down, mirror)), clip[0]]
    return {
        "rot_x": clip,
        "rot4_out": np.stack(turned),
        "rot8_out": np.stack(eight),
        "aug16_out_as_coded": np.stack(4 * turned),
    }


SOURCES = {"recorded": recorded, "generated": generated}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", CHECKS)
def test_an_operation_is_that_of_the_release(name, source):
    CHECKS[name](SOURCES[source]())


@pytest.mark.parametrize("source", SOURCES)
def test_no_array_is_left_out(source):
    arrays = Noted(SOURCES[source]())
    for check in CHECKS.values():
        check(arrays)
    assert arrays.asked == set(arrays)


def test_recorded_and_generated_arrays_have_the_same_names():
    assert generated().keys() == recorded().keys()


def test_the_sixteen_orientations_are_all_different_and_as_coded_four_are():
    clip = torch.rand(1, 2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    for ways, different in ((ORIENTATIONS, 16), (LEGACY_ORIENTATIONS, 4)):
        laid = oriented(clip.expand(16, -1, -1, -1, -1), torch.arange(16), ways[16])
        assert len({one.numpy().tobytes() for one in laid}) == different


def test_an_orientation_mirrors_and_reverses_first_and_turns_then():
    clip = torch.rand(1, 2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    for number, ways in ORIENTATIONS.items():
        assert len(ways) == number
        laid = oriented(clip.expand(number, -1, -1, -1, -1), torch.arange(number), ways)
        for one, way in zip(laid, ways, strict=True):
            expected = clip[0].flip(3) if way.mirrored else clip[0]
            expected = expected.flip(1) if way.backwards else expected
            assert torch.equal(one, torch.rot90(expected, way.turns, (2, 3)))
