"""The table of the data sets that `fetch` knows: whole, and as others publish them."""

import re
from pathlib import Path

import pytest
import yaml

from hgrl.core.settings import Settings
from hgrl.data.fetching.archives import DATA_SETS
from hgrl.data.fetching.survey import survey

REPOSITORY = Path(__file__).resolve().parents[1]


def test_imagenet_has_one_folder_name():
    """What `fetch` counts is what the profiles read."""
    profile = yaml.safe_load((REPOSITORY / "profiles/paper.yaml").read_text())
    (source,) = profile["data"]["extra"]
    assert source["folder"] == DATA_SETS["imagenet"].folder == "ImageNet"
    assert {split.folder for split in DATA_SETS["imagenet"].splits} == {"ImageNet"}


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_real_table_is_whole(name):
    known = DATA_SETS[name]
    assert known.splits and known.title
    for archive in filter(None, [known.archive]):
        if name == "msrc":  # of which no checksum is published
            assert archive.checksum is None and all(a.startswith("https://") for a in archive.addresses)
        else:
            assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.checksum)
        assert all(re.fullmatch(f"https?://.*/{archive.file}", address) for address in archive.addresses)
        assert archive.size > 0 and archive.unpacked > 0


def test_checksums_are_torchvisions_where_it_has_them():
    from torchvision.datasets.imagenette import Imagenette
    from torchvision.datasets.sbd import SBDataset
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    voc, sbd = DATA_SETS["voc2012"].archive, DATA_SETS["sbd"].archive
    assert (
        voc.checksum == f"md5:{DATASET_YEAR_DICT['2012']['md5']}"
        and voc.addresses[0] == DATASET_YEAR_DICT["2012"]["url"]
    )
    assert sbd.checksum == f"md5:{SBDataset.md5}" and sbd.addresses[0] == SBDataset.url
    (url, digest), archive = Imagenette._ARCHIVES["160px"], DATA_SETS["imagenette"].archive
    assert (archive.addresses[0], archive.checksum) == (url, f"md5:{digest}")


def test_real_data_against_the_published_numbers(real_data):
    rows = {(row.name, row.split.name): row for row in survey(real_data, Settings())}
    assert [rows["bsds500", split].status for split in ("train", "val", "test")] == ["complete"] * 3
    assert [rows["voc2012", split].found for split in ("train", "val")] == [437, 445]
