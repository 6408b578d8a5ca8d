"""DAVIS: `JPEGImages/480p/<video>/*.jpg`, `Annotations/480p/<video>/*.png`, `ImageSets/2017/<split>.txt`."""

from collections.abc import Iterator
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.samples import Samples, Video, sample_name
from hgrl.data.sets.listing import find_folder, images_in, read_list, require_files


def open_davis(root: Path, folder: str, split: str) -> tuple[Video, ...]:
    """The videos of a split, in the list's order. Raises InputError for anything that is missing."""
    videos = []
    for place in _listed(root, folder, split):
        frames, home = images_in(place), place.parents[2]
        masks = tuple(home / "Annotations/480p" / place.name / f"{frame.stem}.png" for frame in frames)
        require_files(masks, listed_in=place)
        videos.append(Video(place.name, frames, masks))
    return tuple(videos)


def open_frames(root: Path, folder: str, split: str) -> Samples:
    """All frames of a split, video by video, without masks. InputError for what is missing."""
    frames = tuple(frame for place in _listed(root, folder, split) for frame in images_in(place))
    data_set = Path(folder).name
    return Samples(tuple(sample_name(data_set, f"{path.parent.name}_{path.stem}") for path in frames), frames)


def _listed(root: Path, folder: str, split: str) -> Iterator[Path]:
    """The folders of a split's frames, in the list's order."""
    home = find_folder(root, folder, f"{folder}/DAVIS", needs="JPEGImages/480p")
    listed = home / "ImageSets/2017" / f"{split}.txt"
    for name, *_ in read_list(listed):
        place = home / "JPEGImages/480p" / name
        if not place.is_dir():
            raise InputError(f"{place}: listed in {listed} but not there; fetch it or take it off the list")
        yield place
