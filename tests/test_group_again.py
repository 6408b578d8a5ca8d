"""Grouping where files lie already: done ones stay; stale, damaged and foreign ones each get their due."""

import numpy as np
import pytest
from PIL import Image
from test_group import CROP, FAST, files_of, write_images

from hgrl.core.errors import InputError
from hgrl.data.samples import Samples
from hgrl.grouping import edges, group
from hgrl.grouping.group import group_images, region_tree
from hgrl.grouping.outputs import edge_map_path, save_edge_map, tree_path
from hgrl.grouping.region_tree import RegionTree, load_tree


def assert_equal_trees(one, two):
    for name in ("labels", "children", "heights"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_what_is_done_stays_and_what_is_missing_is_made(tmp_path):
    samples = write_images(tmp_path / "images", {"a": CROP[:60], "b": CROP[60:]})
    group_images(samples, tmp_path / "trees", FAST)
    first, second = (tree_path(tmp_path / "trees", name) for name in samples.names)
    assert sorted(path for path in (tmp_path / "trees").rglob("*") if path.is_file()) == [first, second]
    before = first.stat().st_mtime_ns
    second.unlink()
    assert group_images(samples, tmp_path / "trees", FAST) == {}
    assert first.stat().st_mtime_ns == before and second.exists()
    assert group_images(samples, tmp_path / "trees", FAST, edges=True) == {}
    assert all(edge_map_path(tmp_path / "trees", name).exists() for name in samples.names)


def one_image(tmp_path, image=CROP):
    samples = write_images(tmp_path / "images", {"a": image})
    return samples, tree_path(tmp_path / "trees", "toy/a")


def test_a_tree_of_other_settings_code_or_network_is_made_again(tmp_path, monkeypatch):
    samples, path = one_image(tmp_path)
    origins = []

    def grow(settings, network=None):
        assert group_images(samples, tmp_path / "trees", settings, network=network) == {}
        origins.append(load_tree(path)[1])

    grow(FAST)
    grow(FAST.model_copy(update={"min_area": 100}))
    assert (
        RegionTree.load(path).regions
        == region_tree(CROP, FAST.model_copy(update={"min_area": 100}))[1].regions
    )
    for content in (b"weights", b"other weights"):  # the forest does not read them
        (tmp_path / "hed.pt").write_bytes(content)
        grow(FAST, edges.EdgeNetwork(tmp_path / "hed.pt"))
    monkeypatch.setattr(group, "code_fingerprint", lambda *modules: "other code")
    grow(FAST)
    monkeypatch.setattr(group, "MODEL", tmp_path / "hed.pt")  # another forest is shipped
    grow(FAST)
    assert len(set(origins)) == len(origins) == 6
    monkeypatch.undo()
    grow(FAST)
    assert origins[-1] == origins[0]


def test_a_tree_of_a_replaced_photograph_is_made_again(tmp_path):
    samples, path = one_image(tmp_path)
    group_images(samples, tmp_path / "trees", FAST)
    Image.fromarray(CROP[:, ::-1]).save(samples.images[0])
    assert group_images(samples, tmp_path / "trees", FAST) == {}
    assert_equal_trees(RegionTree.load(path), region_tree(np.ascontiguousarray(CROP[:, ::-1]), FAST)[1])


def tree_of_another_image(path):
    region_tree(CROP[:10, :10], FAST)[1].save(path, "0123456789abcdef")


def tree_without_checksum(path):
    tree = region_tree(CROP[:10, :10], FAST)[1]
    np.savez(path, labels=tree.labels, children=tree.children, heights=tree.heights)


def cut_tree(path):
    path.write_bytes(path.read_bytes()[:-30])


def edited_tree(path):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {"heights": arrays["heights"] / 2}))


@pytest.mark.parametrize(
    ("spoil", "aside"),
    [
        (tree_of_another_image, False),
        (tree_without_checksum, False),
        (edited_tree, False),
        (cut_tree, True),
        (lambda path: path.write_text("junk"), True),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_foreign_or_damaged_tree_is_made_again(tmp_path, capsys, spoil, aside, workers):
    samples = write_images(tmp_path / "images", {"a": CROP, "b": CROP[:50]})
    path = tree_path(tmp_path / "trees", "toy/a")
    group_images(samples, tmp_path / "trees", FAST)
    spoil(path)
    spoilt = path.read_bytes()
    assert group_images(samples, tmp_path / "trees", FAST, workers) == {}
    assert_equal_trees(RegionTree.load(path), region_tree(CROP, FAST)[1])
    # nobody can tell whose an unreadable file is: it is renamed, and that is said
    others = set(path.parent.iterdir()) - {path, tree_path(tmp_path / "trees", "toy/b")}
    assert [other.read_bytes() for other in others] == ([spoilt] if aside else [])
    assert ("a.npz: damaged, so made again" in capsys.readouterr().out) == aside


def test_damaged_files_are_renamed_one_beside_the_other(tmp_path):
    samples, path = one_image(tmp_path)
    path.parent.mkdir(parents=True)
    for content in ("first", "second"):
        path.write_text(content)
        group_images(samples, tmp_path / "trees", FAST)
    assert path.with_name("a.npz.damaged").read_text() == "first"
    assert path.with_name("a.npz.damaged1").read_text() == "second"


def test_a_cut_or_other_edge_map_is_made_again(tmp_path):
    samples, _ = one_image(tmp_path)
    path = edge_map_path(tmp_path / "trees", "toy/a")
    group_images(samples, tmp_path / "trees", FAST, edges=True)
    whole = path.read_bytes()
    save_edge_map(path, np.zeros((5, 5)), "another image")
    other = path.read_bytes()
    for content in (whole[:-100], whole[:30], other):
        path.write_bytes(content)
        assert group_images(samples, tmp_path / "trees", FAST, edges=True) == {}
        assert path.read_bytes() == whole


def test_files_that_grouping_did_not_write_are_left_alone(tmp_path):
    samples = write_images(tmp_path / "images", {"a": CROP, "b": CROP[:50], "c": CROP[:40], "d": CROP[:30]})
    folder = tmp_path / "trees"
    (folder / "toy" / "d.npz").mkdir(parents=True)
    np.savez(tree_path(folder, "toy/a"), data=np.arange(3))
    Image.fromarray(CROP).save(edge_map_path(folder, "toy/b"))
    before = files_of(folder)
    failures = group_images(samples, folder, FAST, edges=True)
    assert list(failures) == ["toy/a", "toy/b", "toy/d"]
    assert all("not written by `group`" in problem for problem in failures.values())
    assert {path: path.read_bytes() for path in before} == before
    assert tree_path(folder, "toy/c").exists()


def test_a_result_that_would_lie_on_an_input_is_refused_before_any_work(tmp_path):
    (tmp_path / "toy").mkdir()
    Image.fromarray(CROP).save(tmp_path / "toy" / "a.edges.png")
    Image.fromarray(CROP).save(tmp_path / "toy" / "a.png")
    names = ("toy/a.edges", "toy/a")
    (tmp_path / "link").symlink_to(tmp_path)
    for root in (tmp_path, tmp_path / "link"):
        samples = Samples(names, tuple(root / f"{name}.png" for name in names))
        before = files_of(tmp_path)
        with pytest.raises(InputError, match=r"a\.edges\.png: .* would be overwritten; choose another --out"):
            group_images(samples, tmp_path, FAST, edges=True)
        assert files_of(tmp_path) == before
