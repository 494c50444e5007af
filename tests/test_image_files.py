"""Pictures as files: metadata that other programs read, and pictures of every kind read back."""

import json
import os
import struct
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from neuroprompt import image_files
from neuroprompt.image_files import PictureInfo, load_images, read_metadata, save_image

CONFIG = {
    "steps": 8,
    "scheduler": "DPMSolverMultistepScheduler",
    "guidance": 3.0,
    "negative": "blurry",
}
INFO = PictureInfo("a cat", "a cat, 日本画, “détaillé”, by Sára", 2**40, "org/model", CONFIG)
PARAMETERS = (
    "a cat, 日本画, “détaillé”, by Sára\nNegative prompt: blurry\n"
    f"Steps: 8, Sampler: DPM++ 2M, CFG scale: 3.0, Seed: {2**40}, Size: 24x16, Model: org/model"
)


@pytest.fixture
def image():
    return torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp"])
def test_a_saved_picture_carries_what_made_it(tmp_path, image, suffix):
    path = tmp_path / "new" / f"a{suffix}"
    save_image(image, path, INFO)
    found = read_metadata(path)
    assert found["parameters"] == PARAMETERS
    assert PictureInfo(**found["neuroprompt"]) == INFO
    assert [f.name for f in path.parent.iterdir()] == [path.name]
    back = torch.from_numpy(np.array(load_images([path])[0])).permute(2, 0, 1) / 255
    exact = suffix in (".png", ".webp")
    assert (back - image).abs().max() <= (0.5 / 255 + 1e-6 if exact else 0.5)
    assert back.shape == image.shape


def test_a_picture_of_the_first_version_is_read_under_the_names_of_today(tmp_path, image):
    config = {"num_inference_steps": 8, "guidance_scale": 3.0, "height": 512, "width": 768, "negative_prompt": "blurry"}
    config["long_prompts"] = "truncate"  # which is no setting any more
    made = {"original": "a cat", "prompt": "a cat, 8k", "seed": 3, "model": "embedded", "config": config}
    save_image(image, tmp_path / "old.png", made)
    read = PictureInfo(**read_metadata(tmp_path / "old.png")["neuroprompt"])
    settings = {"steps": 8, "guidance": 3.0, "size": [768, 512], "negative": "blurry"}
    assert read == PictureInfo("a cat", "a cat, 8k", 3, "embedded", settings)


def test_guidance_of_distilled_models_is_named_as_forge_does(tmp_path, image):
    config = CONFIG | {"guidance": 3.5, "true_cfg": 1.0}
    save_image(image, tmp_path / "a.png", replace(INFO, config=config))
    assert "CFG scale: 1.0, Distilled CFG Scale: 3.5, " in read_metadata(tmp_path / "a.png")["parameters"]


def test_png_chunks_and_exif_are_where_a1111_has_them(tmp_path, image):
    save_image(image, tmp_path / "a.png", INFO)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.text["parameters"] == PARAMETERS
        assert json.loads(picture.text["neuroprompt"])["original"] == "a cat"
    expected = b"UNICODE\0" + PARAMETERS.encode("utf-16-be")
    for suffix in (".jpg", ".webp"):
        save_image(image, tmp_path / f"a{suffix}", INFO)
        with Image.open(tmp_path / f"a{suffix}") as picture:
            comment = picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        assert comment == expected
        # tag, type 7 (UNDEFINED; piexif, which A1111 reads with, takes no other), length
        entries = (struct.pack(f"{order}HHL", ExifTags.Base.UserComment, 7, len(expected)) for order in "<>")
        assert sum((tmp_path / f"a{suffix}").read_bytes().count(entry) for entry in entries) == 1


@given(st.text(max_size=200), st.text(max_size=50))
def test_any_text_goes_through_any_format(tmp_path_factory, prompt, model):
    folder = tmp_path_factory.mktemp("any")
    info = PictureInfo(prompt, prompt, 0, model)
    for suffix in (".png", ".jpg", ".webp"):
        save_image(torch.zeros(3, 8, 8), folder / f"a{suffix}", info)
        assert read_metadata(folder / f"a{suffix}")["neuroprompt"]["text"] == prompt


def test_metadata_of_other_kinds(tmp_path, image):
    save_image(image, tmp_path / "bare.png")
    assert read_metadata(tmp_path / "bare.png") == {}
    for suffix in (".png", ".webp"):
        save_image(Image.new("RGB", (9, 9)), tmp_path / f"grid{suffix}", {"prompts": ["a", "b"], "note": "é" * 70000})
        assert read_metadata(tmp_path / f"grid{suffix}")["neuroprompt"]["prompts"] == ["a", "b"]
    with pytest.raises(ValueError, match="do not fit into a JPEG"):
        save_image(image, tmp_path / "grid.jpg", {"note": "e" * 70000})
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", "theirs\nSteps: 20")
    Image.new("RGB", (4, 4)).save(tmp_path / "theirs.png", pnginfo=chunks)
    assert read_metadata(tmp_path / "theirs.png") == {"parameters": "theirs\nSteps: 20"}
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = '"a camera\'s words"'
    Image.new("RGB", (4, 4)).save(tmp_path / "camera.jpg", exif=exif)
    assert read_metadata(tmp_path / "camera.jpg") == {}


def test_model_names_with_commas_are_quoted(tmp_path, image):
    save_image(image, tmp_path / "a.png", PictureInfo("a", "a", 0, "mine, v2"))
    assert read_metadata(tmp_path / "a.png")["parameters"] == 'a\nSeed: 0, Size: 24x16, Model: "mine, v2"'


def test_nothing_half_written_stays(tmp_path, image, monkeypatch):
    save_image(image, tmp_path / "a.png", INFO)
    before = (tmp_path / "a.png").read_bytes()

    def fail(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", fail)
    for name in ("a.png", "b.jpg", "new/c.webp"):
        with pytest.raises(OSError, match="No space") as caught:
            save_image(torch.zeros(3, 8, 8), tmp_path / name)
        assert caught.value.filename == str(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == before
    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == ["a.png"]


@pytest.mark.parametrize(
    ("picture", "name", "message"),
    [
        (torch.zeros(3, 8, 8), "a.gif", r"pictures are written as \.png"),
        (torch.zeros(1, 3, 8, 8), "a.png", r"of shape \(3, height, width\); this is torch.float32 of \(1, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "a.png", "this is torch.uint8"),
        (torch.zeros(3, 1, 16384), "a.webp", "16384 x 1 pixels are too many for a WEBP"),
    ],
)
def test_what_cannot_be_saved(tmp_path, picture, name, message):
    with pytest.raises(ValueError, match=message):
        save_image(picture, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_modes_become_rgb(tmp_path):
    red = (200, 30, 60)
    half = Image.new("RGBA", (5, 4), (*red, 0))
    half.paste((*red, 255), (0, 0, 2, 4))
    half.save(tmp_path / "rgba.png")
    half.quantize(8).save(tmp_path / "palette.png")  # a palette with transparency
    half.convert("LA").save(tmp_path / "la.png")
    Image.new("CMYK", (5, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((4, 5), 257 * 100, np.uint16)).save(tmp_path / "16bit.png")
    Image.fromarray(np.full((4, 5), 257 * 100, np.int32)).save(tmp_path / "32bit.tif")
    Image.fromarray(np.full((4, 5), 0.25, np.float32)).save(tmp_path / "float.tif")
    Image.new("1", (5, 4), 1).save(tmp_path / "bits.png")
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("blue", "lime")]
    frames[0].save(tmp_path / "animated.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)
    expected = {
        "rgba.png": (red, (255, 255, 255)),
        "palette.png": (red, (255, 255, 255)),
        "la.png": ((84,) * 3, (255,) * 3),
        "cmyk.jpg": ((255, 0, 0),) * 2,
        "16bit.png": ((100,) * 3,) * 2,
        "32bit.tif": ((100,) * 3,) * 2,
        "float.tif": ((64,) * 3,) * 2,
        "bits.png": ((255,) * 3,) * 2,
        "animated.gif": ((0, 0, 255),) * 2,
        "animated.webp": ((0, 0, 255),) * 2,
    }
    for (name, (left, right)), picture in zip(
        expected.items(), load_images([tmp_path / n for n in expected]), strict=True
    ):
        assert (picture.mode, picture.size) == ("RGB", (5, 4)), name
        for place, colour in (((0, 0), left), ((4, 3), right)):
            assert np.abs(np.subtract(picture.getpixel(place), colour)).max() <= 3, name


def test_extreme_sizes_and_turned_pictures(tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "dot.png")
    Image.new("L", (20_001, 3)).save(tmp_path / "strip.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    sizes = [p.size for p in load_images([tmp_path / n for n in ("dot.png", "strip.png", "turned.jpg")])]
    assert sizes == [(1, 1), (20_001, 3), (4, 8)]


def test_what_is_no_picture_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "folder.png").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    messages = {
        "text.png": "no picture",
        "empty.jpg": "no picture",
        "drawing.svg": "no picture",
        "folder.png": "cannot be read",
        "missing.png": "no such file",
        "cut.png": "damaged",
    }
    for name, message in messages.items():
        with pytest.raises(ValueError, match=message) as caught:
            load_images([tmp_path / name])
        assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
    monkeypatch.setattr(image_files, "MAX_PIXELS", 4095)
    with pytest.raises(ValueError, match="64 x 64 pixels are too many"):
        load_images([tmp_path / "whole.png"])


def test_what_a_hostile_file_says_and_decodes_to_is_one_line(tmp_path):
    """Decoders raise whatever they like (NotImplementedError, RuntimeError, SyntaxError …), in reading texts, too."""
    Image.new("RGB", (8, 8)).save(tmp_path / "unknown.dds")
    data = bytearray((tmp_path / "unknown.dds").read_bytes())
    data[80:84] = bytes(4)  # flags of the pixel format
    (tmp_path / "unknown.dds").write_bytes(data)
    Image.effect_noise((64, 64), 50).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    for name in ("unknown.dds", "cut.png"):
        for read in (read_metadata, lambda path: load_images([path])):
            with pytest.raises(ValueError, match=name) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"neuroprompt":' * 50_000, "9" * 10_000, "no JSON", '"text"'])
def test_a_description_that_is_none_of_ours_is_passed_over(tmp_path, text):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("neuroprompt", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=chunks)
    assert not isinstance(read_metadata(tmp_path / "a.png").get("neuroprompt"), dict)


def test_postscript_is_not_run(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    with pytest.raises(ValueError, match="no picture"):
        load_images([tmp_path / "a.eps"])


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_pictures_take_no_more_than_others(tmp_path, kind):
    pixels = 2048 * 2048
    suffix = ".png" if kind == np.uint16 else ".tif"
    Image.fromarray(np.zeros((2048, 2048), kind)).save(tmp_path / f"deep{suffix}")
    tracemalloc.start()
    try:
        load_images([tmp_path / f"deep{suffix}"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * pixels  # in one piece of 64-bit floats they took 25 bytes a pixel


def test_threads_leave_pillows_own_limit_as_it_was(monkeypatch):
    limit, own = Image.MAX_IMAGE_PIXELS, Image.open
    monkeypatch.setattr(Image, "open", lambda *given, **settings: time.sleep(0.02) or own(*given, **settings))
    data = image_files.encode_png(Image.new("RGB", (8, 8)))
    with ThreadPoolExecutor(4) as threads:
        pictures = list(threads.map(image_files.decode_image, [data] * 4))
    assert len(pictures) == 4 and Image.MAX_IMAGE_PIXELS == limit
