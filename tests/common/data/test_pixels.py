"""Pictures as numbers: every mode of PNG and JPEG is 8 bits, or refused in one line, whoever reads it."""

import numpy as np
import pytest
from PIL import Image

from twinscale.common.data import pixels
from twinscale.common.data.pixels import brought_to, from_0_to_1, png_of, read_pixels, with_channels
from twinscale.common.errors import BadInput

GRAY = (np.arange(256, dtype=np.uint8).reshape(16, 16) * 7) % 251
COLOURS = np.stack([GRAY, GRAY.T, 255 - GRAY], axis=-1)


@pytest.fixture
def saved(tmp_path):
    """saved(PIL image): its file."""

    def make(image, name="a.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return make


def with_alpha(image, alpha):
    image = image.copy()
    image.putalpha(Image.fromarray(alpha))
    return image


SOLID = np.full((16, 16), 255, np.uint8)


@pytest.mark.parametrize(("image", "expected"), [
    (Image.fromarray(GRAY), GRAY[..., None]), (Image.fromarray(COLOURS), COLOURS),
    (Image.fromarray(GRAY.astype(np.uint16) * 257), GRAY[..., None]),  # which PIL itself makes white
    (Image.fromarray((GRAY.astype(np.uint16) << 8) + 255), GRAY[..., None]),
    (Image.fromarray(GRAY > 99), np.where(GRAY > 99, 255, 0)[..., None]),
    (Image.fromarray(GRAY).convert("P"), np.repeat(GRAY[..., None], 3, axis=-1)),
    (with_alpha(Image.fromarray(GRAY), SOLID), GRAY[..., None]),
    (with_alpha(Image.fromarray(COLOURS), SOLID), COLOURS)])
def test_every_mode_that_has_a_meaning_is_8_bits(saved, image, expected):
    found = read_pixels(saved(image))
    assert found.dtype == np.uint8 and np.array_equal(found, expected)


def test_16_bits_a_colour_are_the_upper_8_too(tmp_path):
    """Which PIL reads and does not write."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    wide = (COLOURS.astype(">u2") << 8) + 200
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in wide)
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
                                     + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    assert np.array_equal(read_pixels(tmp_path / "a.png"), COLOURS)


def test_jpeg(saved):
    smooth = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 8
    gray = read_pixels(saved(Image.fromarray(smooth), "a.jpg", quality=100))
    assert gray.shape == (16, 16, 1) and abs(gray[..., 0].astype(int) - smooth).max() < 4
    assert read_pixels(saved(Image.fromarray(COLOURS), "b.jpg")).shape == (16, 16, 3)


@pytest.mark.parametrize(("image", "options", "said"), [
    (with_alpha(Image.fromarray(GRAY), GRAY), {}, "transparent in places"),
    (with_alpha(Image.fromarray(COLOURS), GRAY), {}, "transparent in places"),
    (Image.fromarray(GRAY).convert("P"), {"transparency": 3}, "transparent in places"),
    (Image.fromarray(GRAY), {"transparency": 7}, "transparent in places"),
    (Image.fromarray(COLOURS).convert("CMYK"), {"name": "a.jpg"}, "its pixels are CMYK"),
    (Image.fromarray(GRAY), {"save_all": True, "append_images": [Image.fromarray(GRAY.T)]}, "holds 2 pictures"),
    (Image.fromarray(GRAY), {"format": "GIF"}, "no image can be read")])
def test_what_would_have_to_be_guessed_is_refused(saved, image, options, said):
    with pytest.raises(BadInput, match=f"^[^\n]*a.(png|jpg): .*{said}.*: [^\n]*$"):
        read_pixels(saved(image, **options))


def test_a_bomb_and_broken_files_are_one_line(saved, tmp_path, monkeypatch, recwarn):
    path = saved(Image.fromarray(COLOURS))
    content = path.read_bytes()
    for cut in (0, 10, 40, len(content) // 2):
        path.write_bytes(content[:cut])
        with pytest.raises(BadInput, match="a.png: no image can be read"):
            read_pixels(path)
    path.write_bytes(content)
    monkeypatch.setattr(pixels, "MOST_PIXELS", 16 * 16 - 1)
    with pytest.raises(BadInput, match="is 16 x 16 pixels: make it smaller"):
        read_pixels(path)
    assert not recwarn


@pytest.mark.parametrize(("tag", "turned"), [
    (1, lambda x: x), (2, lambda x: x[:, ::-1]), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1)),
    (8, np.rot90)])
def test_a_cameras_orientation_is_applied(saved, tag, turned):
    exif = Image.Exif()
    exif[0x0112] = tag
    assert np.array_equal(read_pixels(saved(Image.fromarray(COLOURS[:9]), exif=exif)), turned(COLOURS[:9]))


def test_a_size_is_reached_by_the_shorter_side_and_the_middle_of_the_longer():
    stripes = np.repeat(np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[None], 12, 0)[..., None], 3, -1)
    out = brought_to(stripes, 6)
    assert out.shape == (6, 6, 3) and abs(out[..., 0].astype(int) - np.arange(65, 185, 20)).max() <= 3
    assert np.array_equal(brought_to(stripes[..., :1].swapaxes(0, 1), 6)[..., 0], out[..., 0].T)
    assert np.array_equal(brought_to(COLOURS, 16), COLOURS) and brought_to(GRAY[:5, :3, None], 40).shape == (40, 40, 1)
    checks = np.indices((8, 8)).sum(0).astype(np.uint8) % 2 * 200
    assert abs(brought_to(checks[..., None], 2).astype(int) - 100).max() <= 2  # all that a pixel covers


def test_channels_are_added_and_never_lost():
    gray = GRAY[..., None]
    colours = with_channels(gray, 3, "a")
    assert np.array_equal(colours, np.stack([GRAY] * 3, axis=-1)) and with_channels(gray, 1, "a") is gray
    assert np.array_equal(with_channels(colours, 1, "a"), gray)
    with pytest.raises(BadInput, match="a: has colours, but gray is wanted"):
        with_channels(COLOURS, 1, "a")


@pytest.mark.parametrize(("values", "said"), [
    (GRAY.astype(np.float32), "from 0 to 250.*divide them by 255"), (np.array([-1.0, 1]), "values from -1 to 1"),
    (np.array([0, 1.01]), "values from 0 to 1.01"), (np.array([np.nan, 1]), "not finite"),
    (np.array([np.inf]), "not finite"),
    (GRAY.astype(np.uint16), "is uint16"), (GRAY > 3, "is bool"), (GRAY.astype(int), "is int64")])
def test_values_that_are_no_image_are_refused(values, said):
    with pytest.raises(BadInput, match=f"^a: .*{said}"):
        from_0_to_1(values, "a")


def test_values_from_0_to_1_stay():
    assert np.array_equal(from_0_to_1(GRAY, "a"), GRAY / np.float32(255)) and from_0_to_1(GRAY, "a").dtype == np.float32
    for dtype in (np.float16, np.float32, np.float64):
        values = np.linspace(0, 1, 9).astype(dtype)
        assert np.array_equal(from_0_to_1(values, "a"), values)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_pixels_that_a_png_lacks_are_not_taken_for_black(tmp_path, mode):
    """A stream that ends at a row's end, though rows are missing, is no error to a decoder."""
    import zlib

    from twinscale.common.data.pixels import missing_bytes

    Image.new(mode, (13, 9)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    assert missing_bytes(content) == 0 and read_pixels(tmp_path / "whole.png").shape[:2] == (9, 13)
    at = content.index(b"IDAT")
    pixels = zlib.decompress(content[at + 4:at + 4 + int.from_bytes(content[at - 4:at])])
    short = zlib.compress(pixels[:-2 * len(pixels) // 9])
    torn = content[:at - 4] + len(short).to_bytes(4) + b"IDAT" + short + zlib.crc32(b"IDAT" + short).to_bytes(4)
    (tmp_path / "torn.png").write_bytes(torn + content[content.index(b"IEND") - 4:])
    with pytest.raises(BadInput, match="bytes of its pixels are missing"):
        read_pixels(tmp_path / "torn.png")


def test_pixels_that_are_written_are_read_back(tmp_path):
    for channels in (1, 3):
        drawn = np.random.default_rng(0).integers(0, 256, (5, 4, channels), np.uint8)
        (tmp_path / "x.png").write_bytes(png_of(drawn))
        assert (read_pixels(tmp_path / "x.png") == drawn).all()
