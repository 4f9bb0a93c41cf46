"""Write the pixels of a real photograph as the points of the k-means job.

The photographs are the two that the scikit-learn package carries; the package is only looked up,
never imported. The points are the pixels in rows from the top left, (pixel_count, 3) float64,
red, green, blue from 0 to 255; the dataset's attributes `height` and `width` give the picture.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

PHOTOGRAPHS = ("china", "flower")


def photograph_path(name: str) -> Path:
    """Return where the installed scikit-learn keeps the photograph `name`."""
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        sys.exit(
            "make_input: the photographs come with scikit-learn, which is not installed; "
            "run `pip install --no-deps scikit-learn`, or give a picture of your own with --image"
        )
    package = Path(next(iter(found.submodule_search_locations)))
    return package / "datasets" / "images" / f"{name}.jpg"


def read_pixels(path: Path, crop: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Decode a picture to (height, width, 3) uint8; `crop` keeps the middle (width, height)."""
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except OSError as error:
        sys.exit(f"make_input: {path} is no picture that can be read: {error}; give another file")
    if crop is None:
        return pixels
    height, width = pixels.shape[:2]
    if crop[0] > width or crop[1] > height:
        sys.exit(f"make_input: --crop {crop[0]}x{crop[1]} is larger than {width}x{height}, {path}")
    left, top = (width - crop[0]) // 2, (height - crop[1]) // 2
    return pixels[top : top + crop[1], left : left + crop[0]]


def write_points(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write (height, width, 3) pixels as dataset `points` of a new HDF5 file."""
    height, width = pixels.shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        points = file.create_dataset("points", data=pixels.reshape(-1, 3).astype(np.float64))
        points.attrs["height"] = height
        points.attrs["width"] = width


def parse_crop(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT."""
    width, separator, height = text.partition("x")
    if not (separator and width.isdecimal() and height.isdecimal() and int(width) * int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, for example 64x64")
    return int(width), int(height)


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photograph", choices=PHOTOGRAPHS, default="china")
    parser.add_argument("--image", type=Path, help="a picture file of your own instead")
    parser.add_argument("--crop", type=parse_crop, metavar="WxH", help="keep the middle only")
    parser.add_argument("--output", type=Path, default=Path("build/kmeans/input.h5"))
    options = parser.parse_args()

    source = options.image or photograph_path(options.photograph)
    pixels = read_pixels(source, options.crop)
    write_points(pixels, options.output)
    height, width = pixels.shape[:2]
    print(f"{options.output}: {height * width} points, {width} x {height} pixels of {source.name}")


if __name__ == "__main__":
    main()
