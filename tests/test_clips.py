"""Clips: stills in motion whose flow is exact, and frames of videos."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from conftest import add_runs, change_profile
from jobs import job_of
from PIL import Image

from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.data.normalise import grey
from hgrl.data.sources import clip_frames
from hgrl.pretraining.methods import REGISTRY
from hgrl.pretraining.methods.clip_method import ClipMethod
from hgrl.sampling import clips
from hgrl.sampling.clips import CONTROL, ClipViews, Layer, Motion, cut_out, draw_motion, film

STILL = Motion(np.eye(2), np.zeros(2), np.zeros((2, 9)))


def smooth(size, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip((blurred - blurred.mean()) * 6 + 128, 0, 255).astype(np.uint8)


def whole(image, motion):
    """A layer that shows all of a square image in the last frame."""
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    return Layer(opaque, np.full(2, len(image) / 2 - 0.5), motion, cv2.BORDER_REFLECT_101)


def drawn(settings, seed, **changes):
    return draw_motion(settings.clips.model_copy(update=changes), np.random.default_rng(seed))


def test_a_spline_takes_its_control_points_where_it_is_told():
    bend = np.random.default_rng(0).normal(0, 0.05, (2, 9))
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(Motion(np.eye(2), np.zeros(2), bend)(CONTROL), CONTROL + bend, atol=1e-9)
    moved = Motion(turn, np.array([0.1, 0.2]), bend)(CONTROL)
    np.testing.assert_allclose(moved, turn @ (CONTROL + bend) + [[0.1], [0.2]], atol=1e-9)


def test_between_its_control_points_a_spline_is_the_one_of_least_bending(settings):
    """Against scipy's, which solves for it in its own way."""
    from scipy.interpolate import RBFInterpolator

    motion, points = drawn(settings, 1), np.random.default_rng(2).uniform(-0.7, 0.7, (50, 2))
    spline = RBFInterpolator(CONTROL.T, motion.bend.T, kernel="thin_plate_spline")
    expected = (points + spline(points)) @ motion.linear.T + motion.shift
    np.testing.assert_allclose(motion(points.T).T, expected, atol=1e-7)
    np.testing.assert_allclose(motion(points.T.astype(np.float32)).T, expected, atol=1e-5)


def test_a_shift_moves_every_pixel_by_as_much():
    image, motion = smooth((32, 32)), Motion(np.eye(2), np.array([3 / 32, -2 / 32]), np.zeros((2, 9)))
    frames, flow = film([whole(image, motion)], 3, 32)
    np.testing.assert_allclose(
        flow, np.broadcast_to(np.array([3, -2.0])[:, None, None], (2, 2, 32, 32)), atol=1e-4
    )
    np.testing.assert_array_equal(frames[2], image)
    np.testing.assert_array_equal(frames[1][2:, :-3], frames[2][:-2, 3:])


@pytest.mark.parametrize("seed", range(4))
def test_the_flow_leads_from_each_frame_to_the_next(settings, seed):
    frames, flow = film([whole(smooth((64, 64)), drawn(settings, seed))], 4, 64)
    y, x = np.mgrid[:64, :64].astype(np.float32)
    for t in range(3):
        to_x, to_y = x + flow[t][0], y + flow[t][1]
        found = cv2.remap(frames[t + 1], to_x, to_y, cv2.INTER_LINEAR).astype(int)
        inside = (to_x >= 0) & (to_x <= 63) & (to_y >= 0) & (to_y <= 63)
        error = np.abs(found - frames[t]).max(-1)[inside]
        assert inside.mean() > 0.5 and np.percentile(error, 99) <= 6, error.max()
        assert np.abs(frames[t + 1].astype(int) - frames[t]).max(-1)[inside].mean() > 2 * error.mean()


def test_the_topmost_picture_hides_the_others_and_gives_the_flow(settings):
    """Against a loop over pixels that asks each layer, from the top, whether it covers."""
    side, frames = 24, 3
    square = np.array([[-0.3, -0.3], [0.3, -0.3], [0.3, 0.3], [-0.3, 0.3]])
    blue = np.full((12, 12, 3), (0, 0, 255), np.uint8)
    layers = [whole(smooth((side, side)), drawn(settings, 0))] + [
        Layer(cut_out(blue, square, 12), 5.5 - np.array(place), drawn(settings, seed))
        for seed, place in ((1, (-4, 0)), (2, (2.0, 3.0)))
    ]
    shown, flow = film(layers, frames, side)
    for t in range(frames - 1):
        for y, x in np.ndindex(side, side):
            point = start = (np.array([[x], [y]]) + 0.5) / side - 0.5
            edge = False  # a mixture of two pictures is not compared
            for layer in layers[::-1]:
                point = start
                for _ in range(frames - 1 - t):
                    point = layer.motion(point)
                at = (point * side + layer.corner[:, None])[:, 0].astype(np.float32)
                coverage = cv2.remap(
                    layer.pixels, *at.reshape(2, 1, 1), cv2.INTER_LINEAR, borderMode=layer.border
                )
                edge |= 0 < coverage[0, 0, 3] < 255
                if coverage[0, 0, 3] >= 128:
                    break
            expected = (layer.motion(start) - start)[:, 0] * side
            np.testing.assert_allclose(flow[t][:, y, x], expected, atol=1e-3)
            if not edge:
                np.testing.assert_allclose(shown[t][y, x], coverage[0, 0, :3], atol=1)
    assert len({tuple(np.round(v, 3)) for v in flow[0][:, ::4, ::4].reshape(2, -1).T}) > 2


def test_clips_of_stills_are_by_seed_and_of_their_kind(dataset, settings):
    views = ClipViews(dataset[0], settings, 0, videos=False)
    one, again, later = views[0, 3], ClipViews(dataset[0], settings, 0, videos=False)[0, 3], views[1, 3]
    assert (one["images"].shape, one["images"].dtype) == ((4, 3, 32, 32), torch.uint8)
    assert (one["flow"].shape, one["flow"].dtype) == ((3, 2, 32, 32), torch.float32)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["images"], later["images"])
    assert not torch.equal(one["images"], ClipViews(dataset[0], settings, 1, videos=False)[0, 3]["images"])
    assert one["flow"].abs().max() > 0.5


def test_without_motion_frames_are_one_crop(dataset, tiny):
    sizes = ("translation", "rotation", "scale", "shear", "bend")
    still = tiny(
        {**{f"clips.{name}": 0 for name in sizes}, "clips.objects": [0, 0], "augment.crop_area": [1, 1]}
    )
    clip = ClipViews(dataset[0], still, 0, videos=False)[0, 0]
    assert not clip["flow"].abs().max() > 1e-4
    assert (clip["images"][1:].int() - clip["images"][0]).abs().max() <= 1


def test_outlines_are_within_their_square_and_have_an_area():
    for seed in range(20):
        outline = clips.draw_outline(np.random.default_rng(seed))
        assert np.abs(outline).max() <= 0.5 + 1e-9
        covered = cut_out(np.zeros((40, 40, 3), np.uint8), outline, 40)[..., 3] > 127
        assert 0.02 < covered.mean() < 0.9


@pytest.fixture
def videos(tmp_path):
    """DAVIS's folders without masks: two videos of 6 and 4 frames; a frame's grey is 20 times its number."""
    for name, frames in (("one", 6), ("two", 4)):
        (tmp_path / "DAVIS/JPEGImages/480p" / name).mkdir(parents=True)
        for t in range(frames):
            image = np.full((40, 48, 3), 20 * t, np.uint8)
            Image.fromarray(image).save(tmp_path / f"DAVIS/JPEGImages/480p/{name}/{t:05d}.png")
    (tmp_path / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (tmp_path / "DAVIS/ImageSets/2017/clips.txt").write_text("one\ntwo\n")
    return tmp_path


CLIPS = {"kind": "davis", "folder": "DAVIS", "split": "clips"}


def test_clips_of_videos_begin_with_the_frame_asked_for_and_stay_in_its_video(videos, tiny):
    settings = tiny({"data.clips": CLIPS, "clips.frames": 3})
    frames = clip_frames(settings.data, videos)
    assert len(frames) == 10 and frames.names[6] == "DAVIS/two_00000"
    views = ClipViews(frames, settings, 0, videos=True)
    shown = [
        (views[0, index]["images"].float().mean((1, 2, 3)) / 20).round().int().tolist() for index in range(10)
    ]
    assert shown == [[0, 1, 2], [1, 2, 3], [2, 3, 4], *[[3, 4, 5]] * 3, [0, 1, 2], *[[1, 2, 3]] * 3]
    assert "flow" not in views[0, 0] and views[0, 0]["images"].shape == (3, 3, 32, 32)
    strided = ClipViews(
        frames, tiny({"data.clips": CLIPS, "clips.frames": 2, "clips.stride": 3}), 0, videos=True
    )
    assert [list(strided.frames_of(index)) for index in (1, 4, 9)] == [[1, 4], [2, 5], [6, 9]]


def test_a_video_shorter_than_a_clip_is_named(videos, tiny):
    settings = tiny({"data.clips": CLIPS, "clips.frames": 5})
    views = ClipViews(clip_frames(settings.data, videos), settings, 0, videos=True)
    assert views[0, 0]["images"].shape[0] == 5
    with pytest.raises(
        InputError, match=r"two: a video of 4 frames, but a clip spans 5; lower clips\.frames"
    ):
        views[0, 7]


def test_clips_come_from_videos(tiny, tmp_path):
    with pytest.raises(InputError, match=r"setting data\.clips: .*\(coco\) has no videos; use kind: davis"):
        clip_frames(
            tiny().data.model_copy(update={"clips": Source(kind="coco", folder="c", split="s")}), tmp_path
        )


class Still(ClipMethod):
    """A clip's frames should have one colour."""

    def loss(self, batch):
        assert batch.clips.shape[1:] == (4, 3, 32, 32) and batch.flow.shape[1:] == (3, 2, 32, 32)
        return self.network(batch.flat_images.float() / 255).std(), {}


def test_settings_of_clips_concern_methods_of_clips_alone(dataset, tiny, monkeypatch):
    monkeypatch.setitem(REGISTRY, "still", Still)

    def identity(method, changes=None):
        return job_of(dataset, tiny(changes), None, method=method).identity

    other = {"clips.frames": 2}
    assert identity("still") != identity("still", other) and "clips" in identity("still")["settings"]
    assert identity("moco") == identity("moco", other) and "clips" not in identity("moco")["settings"]


def test_a_method_that_needs_flow_has_stills_even_where_there_are_videos(videos, dataset, tiny):
    class Flow(Still):
        needs_flow = True

    settings = tiny({"data.clips": CLIPS})
    assert Still.training_set(clip_frames(settings.data, videos), settings, 0).videos
    assert "flow" in Flow.training_set(dataset[0], settings, 0)[0, 0]


def test_a_run_learns_from_the_scenes_own_videos_and_is_evaluated_as_it_learnt(pipeline, experiment):
    from hgrl.data.stage import prepare_data
    from hgrl.evaluation.networks import load_features
    from hgrl.pretraining.stage import pretrain, training_samples

    change_profile(pipeline, {"data.scenes.clips": 2, "data.clips": CLIPS, "clips.frames": 3})
    add_runs({name: {"method": name} for name in ("colorization", "moco")})
    manifest = prepare_data(experiment())
    assert manifest["sets"]["clips"]["files"] == 2 * 4
    run = experiment().run("colorization")
    saved = pretrain(experiment(), run, seed=0)[0]
    assert saved.complete and saved.step == 3 * (8 // 3) and saved.losses.isfinite().all()
    assert len(training_samples(experiment(), run.settings, "moco")) == 6
    image = torch.randint(256, (1, 3, 48, 48), dtype=torch.uint8)
    luma = grey(image).round().to(torch.uint8)
    for name, same in (("colorization", True), ("moco", False)):
        shown = dataclasses.replace(run, definition=experiment().definition(name))
        features = load_features(experiment(), shown, 0)
        coloured, plain = (features(each, ["backbone"])[0] for each in (image, luma))
        assert ((coloured - plain).abs().mean() < 0.02) == same  # luma has been rounded
