"""DAVIS: `JPEGImages/480p/<video>/*.jpg`, `Annotations/480p/<video>/*.png`, `ImageSets/2017/<split>.txt`."""

from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.data.samples import Video
from hgrl.data.sets.listing import find_folder, images_in, read_list, require_files


def open_davis(root: Path, folder: str, split: str) -> tuple[Video, ...]:
    """The videos of a split, in the list's order. Raises InputError for anything that is missing."""
    home = find_folder(root, folder, f"{folder}/DAVIS", needs="JPEGImages/480p")
    listed = home / "ImageSets/2017" / f"{split}.txt"
    videos = []
    for name, *_ in read_list(listed):
        place = home / "JPEGImages/480p" / name
        if not place.is_dir():
            raise InputError(f"{place}: listed in {listed} but not there; fetch it or take it off the list")
        frames = images_in(place)
        masks = tuple(home / "Annotations/480p" / name / f"{frame.stem}.png" for frame in frames)
        require_files(masks, listed_in=place)
        videos.append(Video(name, frames, masks))
    return tuple(videos)
