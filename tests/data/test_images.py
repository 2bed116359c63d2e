from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distcel.data import images as image_files
from distcel.data.images import decode_images
from distcel.experiment.errors import InvalidInputError


def test_photographs_are_rotated_by_their_exif_orientation(tmp_path: Path) -> None:
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4] = 200
    image = Image.fromarray(np.rot90(upright).copy())
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image.save(tmp_path / "photo.png", exif=exif)
    (decoded,) = decode_images([tmp_path / "photo.png"], "RGB", None)
    np.testing.assert_array_equal(decoded, upright.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_16_bits_a_pixel_are_scaled_and_not_clipped(tmp_path: Path, mode: str) -> None:
    levels = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    (decoded,) = decode_images([tmp_path / "deep.png"], mode, None)
    np.testing.assert_allclose(decoded[0], levels / 257, atol=1)


def test_16_bits_of_a_pgm_are_scaled(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 64).reshape(8, 8).astype(">u2")
    (tmp_path / "deep.pgm").write_bytes(b"P5 8 8 65535\n" + levels.tobytes())
    (decoded,) = decode_images([tmp_path / "deep.pgm"], "L", None)
    np.testing.assert_allclose(decoded[0], levels / 257, atol=1)


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "floats"), ("int32", "integers wider")])
def test_pixels_of_an_unknown_range_are_refused(dtype: str, kind: str, tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 1000, 64).reshape(8, 8).astype(dtype)).save(tmp_path / "a.tiff")
    with pytest.raises(InvalidInputError, match=rf"a\.tiff' \(its pixels are {kind}.*convert it"):
        decode_images([tmp_path / "a.tiff"], "L", None)


def test_transparency_and_palettes_become_colours(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (10, 20, 30, 255)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE).save(
        tmp_path / "b.gif"
    )
    for decoded in decode_images([tmp_path / "a.png", tmp_path / "b.gif"], "RGB", None):
        assert decoded[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("limit", ["ours", "Pillow's"])
def test_a_very_large_image_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    Image.new("L", (60, 60)).save(tmp_path / "huge.png")
    if limit == "ours":
        monkeypatch.setattr(image_files, "MAX_PIXELS", 1000)
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InvalidInputError, match=r"huge\.png"):
        decode_images([tmp_path / "huge.png"], "L", None)
