"""Trackers by motion: the frame that all share, RAFT's weights file, learnt models in the stage."""

import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL_PARAMS, add_runs, change_profile, told
from motions import affine, moved, textured
from scores import evaluate, line, small
from test_tracking import moving_square
from torchvision.models import resnet18
from torchvision.models.optical_flow import raft_large, raft_small

from hgrl.core import paths
from hgrl.core.checkpoint import load_checkpoint, save_checkpoint
from hgrl.core.settings import TrackingSettings
from hgrl.evaluation import tracking
from hgrl.evaluation.networks import NO_WEIGHTS, unavailable
from hgrl.evaluation.stage import seeds_of
from hgrl.evaluation.trackers.motion import dis_flow, identity, motion_tracker, warped_by
from hgrl.evaluation.trackers.raft import load_raft, raft_flow
from hgrl.evaluation.trackers.sift_flow import sift_flow
from hgrl.pretraining.stage import pretrain

SETTINGS = TrackingSettings(short_side=96)


@pytest.mark.parametrize("flow", [dis_flow, sift_flow])
def test_masks_follow_a_known_motion(flow):
    video = moving_square()
    found = tracking.evaluate_tracking([video], motion_tracker(warped_by(flow)), SETTINGS)
    copied = tracking.evaluate_tracking([video], identity, SETTINGS)
    assert copied["j_mean"] < 0.75 and found["j_mean"] > 0.9


def test_layers_are_looked_up_where_the_flow_points():
    layers = np.random.default_rng(0).random((3, 8, 9), np.float32)
    still = np.zeros((8, 9, 3), np.uint8)
    found = warped_by(lambda frame, earlier: np.full((8, 9, 2), (2, -1), np.float32))(still, still, layers)
    assert np.array_equal(found[:, 1:, :-2], layers[:, :-1, 2:])
    assert np.array_equal(found[:, 0, :-2], layers[:, 0, 2:])  # beyond the image its border


def test_the_frame_that_explains_the_colours_counts():
    """Masks from a frame that is warped to other colours than the new frame's count for next to nothing."""
    video = moving_square(frames=4, step=0)
    first = video.images[0]

    def warp(frame, earlier, layers):  # frames after the first are taken for others; their masks are lost
        return layers if earlier is first else np.concatenate([255 - layers[:3], layers[:2:-1]])

    video.images = [first, *(image.copy() for image in video.images[1:])]
    masks = motion_tracker(warp)(video, SETTINGS)
    assert all(np.mean(found != video.mask(0)) < 0.02 for found in masks)


def test_equal_errors_share_alike():
    video = moving_square(frames=3, step=0)
    seen = []

    def warp(frame, earlier, layers):
        seen.append(layers[3:].copy())
        return layers

    motion_tracker(warp)(video, SETTINGS)
    assert len(seen) == 3  # one source for the second frame, two for the third
    assert np.allclose(seen[1], seen[0], atol=1e-6) and np.allclose(seen[1].sum(0), 1)


# RAFT


@pytest.fixture(scope="module")
def raft_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "raft_small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    return path


def test_either_of_torchvisions_files_is_recognised(raft_file, tmp_path):
    network, state = load_raft(raft_file), torch.load(raft_file, weights_only=True)
    assert not network.training
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    torch.save(raft_large(weights=None).state_dict(), tmp_path / "large.pth")
    assert len(load_raft(tmp_path / "large.pth").state_dict()) > len(state)


@pytest.mark.parametrize("size", [(128, 136), (131, 150), (48, 70)])
def test_raft_is_given_sizes_that_it_takes(raft_file, size):
    flow = raft_flow(load_raft(raft_file), torch.device("cpu"))(textured(*size), textured(*size, seed=1))
    assert flow.shape == (*size, 2) and flow.dtype == np.float32 and np.isfinite(flow).all()


def test_small_frames_are_enlarged_and_their_flow_is_scaled_back():
    class Constant(torch.nn.Module):
        def forward(self, image, other):
            assert image.shape == (1, 3, 144, 216) and image.min() >= -1 and image.max() <= 1
            return [torch.tensor([6.0, -3.0])[None, :, None, None].expand(1, 2, 144, 216)]

    image = textured(48, 70)
    assert np.allclose(raft_flow(Constant(), torch.device("cpu"))(image, image), [2, -1])


@pytest.mark.parametrize("broken", ["foreign", "missing key", "shape", "code", "bytes", "list"])
def test_other_files_are_one_line(raft_file, tmp_path, broken):
    path, state = tmp_path / "raft.pth", torch.load(raft_file, weights_only=True)
    first = next(iter(state))
    content = {
        "foreign": resnet18(weights=None).state_dict(),
        "missing key": {key: value for key, value in state.items() if key != first},
        "shape": state | {first: torch.zeros(1)},
        "code": {"model": raft_small},
        "list": [1, 2],
    }
    if broken == "bytes":
        path.write_bytes(b"no weights")
    else:
        torch.save(content[broken], path)
    said = told(load_raft, path)
    assert said.startswith(f"{path}: not torchvision's raft_small or raft_large weights")
    assert said.endswith("download them again")


# the stage


def test_raft_is_left_out_without_its_file_and_scored_with_it(pipeline, raft_file, monkeypatch, capsys):
    monkeypatch.setenv("HGRL_DATA", str(raft_file.parent / "nothing"))
    paths.PARAMS.write_text(yaml.safe_dump({**SMALL_PARAMS, "tracking": ["identity", "raft"]}))
    add_runs({"raft": {"method": "raft", "weights": raft_file.name}})
    assert unavailable(small(), small().run("raft")) == NO_WEIGHTS
    assert evaluate("tracking").keys() == {"identity"}
    assert f"run 'raft' is left out: {NO_WEIGHTS}" in capsys.readouterr().out
    assert "raft_small or raft_large weights there" in line("tracking", "raft")
    monkeypatch.setenv("HGRL_DATA", str(raft_file.parent))
    scores = evaluate("tracking", "raft")["raft"]
    assert scores.keys() == {0} and 0 <= scores[0]["paper"]["j_mean"] <= 1
    assert "has no features" in line("probe", "raft")


@pytest.mark.parametrize("name", ["flownetc", "mgpff"])
def test_learnt_motion_is_tracked_from_its_checkpoint_and_has_no_features(pipeline, name, scored):
    change_profile(pipeline, {"pretrain.epochs": 1})
    add_runs({name: {"method": name}})
    pretrain(small(), small().run(name))
    scores = evaluate("tracking", name)[name]
    assert scores.keys() == {0, 1} and seeds_of("tracking", small().run(name)) == (0, 1)
    assert all(0 <= own["field"]["j_mean"] <= 1 for own in scores.values())
    assert scored == [(name, 0), (name, 1)]
    assert evaluate("tracking", name)[name] == scores and len(scored) == 2
    for stage in ("probe", "retrieval"):
        assert f"method '{name}' tracks masks and has no features" in line(stage, name)
    path = small().files.checkpoint(name, 0)
    saved = load_checkpoint(path)
    save_checkpoint(path, type(saved)(**{**vars(saved), "total_steps": saved.step + 1}))
    assert "only; run `dvc repro` to finish it" in line("tracking", name)
    save_checkpoint(path, type(saved)(**{**vars(saved), "method": {"head.weight": torch.zeros(1)}}))
    assert f"{path}: holds another model than 'methods.{name}'" in line("tracking", name)


def test_sift_flow_is_a_run(pipeline):
    add_runs({"sift-flow": {"method": "sift-flow"}})
    scores = evaluate("tracking", "sift-flow,identity")
    assert scores["sift-flow"].keys() == {0}
    assert scores["sift-flow"][0]["paper"]["j_mean"] >= scores["identity"][0]["paper"]["j_mean"] - 0.05


def test_an_affine_motion_carries_a_mask():
    reference = textured(96, 96)
    image, _, _ = moved(reference, affine(3, 1.02, (2, -3)))
    disc = np.hypot(*(np.indices((96, 96)) - 47.5)) < 25
    layers = disc[None].astype(np.float32)
    there, *_ = moved(np.repeat(255 * disc[..., None], 3, -1).astype(np.uint8), affine(3, 1.02, (2, -3)))
    found = warped_by(sift_flow)(image, reference, layers)[0] > 0.5
    assert np.mean(found != (there[..., 0] > 127)) < 0.02
