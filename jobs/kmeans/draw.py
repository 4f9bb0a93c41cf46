"""Draw the photograph beside its quantised version, with the palette below.

Reads what the k-means job wrote; needs the attributes `height` and `width` that
`make_input.py` gives to the points.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

MARGIN = 28
CAPTION = 40
SWATCH = 64
INK = (38, 40, 44)
FAINT = (120, 124, 130)
PAPER = (250, 249, 246)

Pixels = NDArray[np.uint8]


def to_bytes(colours: NDArray[np.float64]) -> Pixels:
    """Round colour coordinates to bytes, halves upwards, as the job prints them."""
    rounded: Pixels = np.clip(np.floor(colours + 0.5), 0, 255).astype(np.uint8)
    return rounded


def quantise(labels: NDArray[np.int32], centroids: NDArray[np.float64], height: int) -> Pixels:
    """Return the picture (height, width, 3) in which each pixel has its centroid's colour."""
    picture: Pixels = to_bytes(centroids)[labels].reshape(height, -1, 3)
    return picture


def draw_palette(
    canvas: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colours: Pixels, counts: list[int]
) -> None:
    """Draw one swatch a colour, from dark to light, as wide as its share of the pixels."""
    left, top, right, bottom = box
    brightness = colours.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    order = np.argsort(brightness, kind="stable")
    edges = np.cumsum([0] + [counts[k] for k in order]) / max(1, sum(counts))
    positions = left + np.rint(edges * (right - left)).astype(int)
    for colour, start, end in zip(order, positions[:-1], positions[1:], strict=True):
        if end > start:
            fill = (int(colours[colour, 0]), int(colours[colour, 1]), int(colours[colour, 2]))
            canvas.rectangle((int(start), top, int(end) - 1, bottom - 1), fill=fill)


def compose(original: Pixels, quantised: Pixels, colours: Pixels, counts: list[int]) -> Image.Image:
    """Lay out both pictures, their captions and the palette on one sheet."""
    height, width = original.shape[:2]
    sheet = Image.new(
        "RGB", (2 * width + 3 * MARGIN, height + SWATCH + 2 * MARGIN + 2 * CAPTION), PAPER
    )
    sheet.paste(Image.fromarray(original), (MARGIN, MARGIN))
    sheet.paste(Image.fromarray(quantised), (2 * MARGIN + width, MARGIN))

    canvas = ImageDraw.Draw(sheet)
    caption, note = ImageFont.load_default(size=18), ImageFont.load_default(size=14)
    line = MARGIN + height + 9
    seen = len(np.unique(original.reshape(-1, 3), axis=0))
    canvas.text((MARGIN, line), f"The photograph: {seen:,} colours", INK, font=caption)
    canvas.text(
        (2 * MARGIN + width, line), f"k-means on the DVM: {len(colours)} colours", INK, font=caption
    )
    top = MARGIN + height + CAPTION + MARGIN // 2
    right = sheet.width - MARGIN
    draw_palette(canvas, (MARGIN, top, right, top + SWATCH), colours, counts)
    canvas.text(
        (MARGIN, top + SWATCH + 9),
        "The palette: each colour as wide as its share of the pixels",
        FAINT,
        font=note,
    )
    return sheet


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=Path, default=Path("build/kmeans/input.h5"))
    parser.add_argument("--result", type=Path, default=Path("build/kmeans/output.h5"))
    parser.add_argument("--output", type=Path, default=Path("build/kmeans/kmeans.png"))
    options = parser.parse_args()

    try:
        with h5py.File(options.points, "r") as file:
            points, attributes = file["points"][...], dict(file["points"].attrs)
        with h5py.File(options.result, "r") as file:
            centroids, labels = file["centroids"][...], file["labels"][...]
    except (OSError, KeyError) as error:
        sys.exit(f"draw: cannot read points and result: {error}; run make_input.py and the job")
    if "height" not in attributes:
        sys.exit(f"draw: {options.points} has no height and width; write it with make_input.py")
    height = int(attributes["height"])
    counts = np.bincount(labels, minlength=len(centroids)).tolist()
    sheet = compose(
        to_bytes(points).reshape(height, -1, 3),
        quantise(labels, centroids, height),
        to_bytes(centroids),
        counts,
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.output, optimize=True)
    print(f"{options.output}: {sheet.width} x {sheet.height} pixels")


if __name__ == "__main__":
    main()
