"""Images that users have: folders, files, torchvision's classes; and what is wrong with them."""

import inspect
import json
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from torchvision import datasets

from priorbench.data.convert import as_bytes, converted, read_images
from priorbench.data.from_torchvision import SPLIT_NAMES
from priorbench.data.loading import load_dataset
from priorbench.data.splits import by_content
from priorbench.errors import UserError

COUNT = 100


def pixels(shape=(COUNT, 12, 10, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(folder, images, order=None, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, i in enumerate(order if order is not None else range(len(images))):
        Image.fromarray(images[i].squeeze()).save(folder / f"{name:04}.{suffix}")
    return str(folder)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"resize": 8}, {"channels": 1}, {"channels": 3, "resize": 16}]
)
def test_a_folder_and_files_of_the_same_images_are_the_same_data(tmp_path, channels, options):
    images = pixels((COUNT, 12, 10, channels))
    shuffled = np.random.default_rng(1).permutation(COUNT)
    folder = load_dataset(save(tmp_path / "f", images, shuffled), options)
    np.savez(tmp_path / "x.npz", images=images)
    np.save(tmp_path / "x.npy", images.transpose(0, 3, 1, 2))
    digests = {
        folder.digest(),
        *(load_dataset(str(tmp_path / f), options).digest() for f in ("x.npz", "x.npy")),
    }
    assert len(digests) == 1
    assert (len(folder.train), len(folder.validation), len(folder.test)) == (70, 10, 20)
    size = (options.get("resize", 12), options.get("resize", 10))
    assert folder.shape == (options.get("channels", channels), *size)


def test_every_image_is_in_one_split_and_unchanged(tmp_path):
    images = pixels()
    data = load_dataset(save(tmp_path / "f", images), {"validation": 10, "test": 0.25})
    assert (len(data.train), len(data.validation), len(data.test)) == (65, 10, 25)
    found = torch.cat([data.train, data.validation, data.test]).permute(0, 2, 3, 1).numpy()
    assert sorted(x.tobytes() for x in found) == sorted(x.tobytes() for x in images)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 40), min_size=60, max_size=120), st.randoms())
def test_equal_images_are_on_one_side_whatever_their_order(values, random):
    images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1)
    try:
        chosen = by_content("x", images, {"validation": 12, "test": 0.2})
    except UserError:
        return  # so many equal ones that too few are left
    sides = {split: {values[i] for i in index} for split, index in chosen.items()}
    assert sorted(i for index in chosen.values() for i in index) == list(range(len(values)))
    assert not sides["train"] & sides["test"]
    assert not sides["train"] & sides["validation"]
    assert not sides["test"] & sides["validation"]
    order = list(range(len(values)))
    random.shuffle(order)
    again = by_content("x", images[order], {"validation": 12, "test": 0.2})
    assert {s: sorted(values[order[i]] for i in index) for s, index in again.items()} == {
        s: sorted(values[i] for i in index) for s, index in chosen.items()
    }


def test_folders_of_classes_and_of_splits_are_obeyed(tmp_path):
    for split, seed, n in (("train", 0, 40), ("validation", 1, 9), ("test", 2, 12)):
        images = pixels((n, 6, 6, 1), seed)
        save(tmp_path / "d" / split / "cat", images[: n // 2])
        save(tmp_path / "d" / split / "dog", images[n // 2 :])
    data = load_dataset(str(tmp_path / "d"))
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 9, 12)
    assert data.labels["train"].bincount().tolist() == [20, 20]
    np.savez(
        tmp_path / "d.npz",
        train=pixels((40, 6, 6)),
        validation=pixels((9, 6, 6), 1),
        test=pixels((12, 6, 6), 2),
    )
    assert load_dataset(str(tmp_path / "d.npz")).digest() == data.digest()
    own = {x.tobytes() for x in pixels((12, 6, 6, 1), 2)}
    assert {x.numpy().tobytes() for x in data.test.permute(0, 2, 3, 1)} == own
    with pytest.raises(UserError, match="has a split of its own for 'test'"):
        load_dataset(str(tmp_path / "d"), {"test": 5})


def test_an_npz_of_splits_keeps_them(tmp_path):
    images, labels = pixels((50, 6, 6)), np.arange(50) % 3
    np.savez(
        tmp_path / "x.npz",
        train=images[:40],
        test=images[40:],
        train_labels=labels[:40],
        test_labels=labels[40:],
    )
    data = load_dataset(str(tmp_path / "x.npz"), {"validation": 0.25})
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 10)
    for split in ("train", "validation", "test"):
        for image, label in zip(getattr(data, split), data.labels[split], strict=True):
            (index,) = (i for i in range(50) if (images[i] == image[0].numpy()).all())
            assert labels[index] == label


def test_unreadable_images_are_all_named(tmp_path):
    folder = save(tmp_path / "f", pixels())
    (tmp_path / "f" / "empty.jpg").write_bytes(b"")
    (tmp_path / "f" / "text.png").write_text("no")
    whole = (tmp_path / "f" / "0003.png").read_bytes()
    (tmp_path / "f" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "f" / "notes.txt").write_text("not meant as an image")
    with pytest.raises(UserError, match="3 images cannot be read") as caught:
        load_dataset(folder)
    assert all(name in str(caught.value) for name in ("empty.jpg", "text.png", "cut.png"))
    assert "notes.txt" not in str(caught.value)


def test_a_decompression_bomb_is_named_not_opened(tmp_path, monkeypatch):
    folder = save(tmp_path / "f", pixels())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="100 images cannot be read"):
        load_dataset(folder)


def test_sizes_that_differ_are_named_and_resize_mends_them(tmp_path):
    save(tmp_path / "f", pixels((40, 6, 6, 3)))
    save(tmp_path / "f/more", pixels((40, 8, 7, 3)))
    with pytest.raises(
        UserError, match=r"6x6 \(\S+f/0000\.png\), 8x7 \(\S+more/0000\.png\); resize=PIXELS"
    ):
        load_dataset(str(tmp_path / "f"))
    data = load_dataset(str(tmp_path / "f"), {"resize": 6})
    assert data.shape == (3, 6, 6)
    assert data.name.endswith("f[resize=6]")


@pytest.fixture
def decoded(monkeypatch):
    """How many files had their pixels decoded."""
    files, load = [], ImageFile.ImageFile.load

    def observed(self):
        files.extend([self.filename] if self.tile else [])  # once they are there, load does nothing
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", observed)
    return files


def test_large_images_whose_sizes_differ_are_refused_by_their_headers(tmp_path, decoded):
    for i, width in enumerate((9000, 9000, 8999)):
        Image.new("1", (width, 9000)).save(tmp_path / f"{i}.png")
    (tmp_path / "text.png").write_text("no")
    with pytest.raises(
        UserError,
        match=r"^1 images .*text\.png \(none of .*in size: 9000x8999 \(\S+\), 9000x9000 \(\S+",
    ):
        load_dataset(str(tmp_path))
    assert not decoded


def turned(path, size, late=False):
    """An image that is to be turned by a quarter; ``late``: said after its pixels, as ImageMagick
    says it.
    """
    image = Image.fromarray(pixels((*size, 3)))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    if late:
        whole = path.read_bytes()
        start = whole.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(whole[start : start + 4])
        iend = whole.index(b"IEND") - 4
        path.write_bytes(whole[:start] + whole[end:iend] + whole[start:end] + whole[iend:])


@pytest.mark.parametrize(("suffix", "late", "most"), [
    ("png", False, 3), ("png", True, 3), ("jpg", False, 0), ("webp", False, 0), ("tiff", False, 3),
])  # fmt: skip
def test_sizes_are_those_of_turned_images_by_the_header_or_the_first_to_differ(
    tmp_path, decoded, suffix, late, most
):
    turned(tmp_path / f"a.{suffix}", (7, 9), late)
    Image.fromarray(pixels((9, 7, 3))).save(tmp_path / "b.jpg")
    assert read_images({"": tmp_path}).images[""].shape == (2, 3, 9, 7)
    decoded.clear()
    for i in range(5):
        Image.fromarray(pixels((7, 9, 3))).save(tmp_path / f"b{i}.{suffix}")
    with pytest.raises(
        UserError, match=r"differ in size: 7x9 \(\S+b0\.\w+\), 9x7 \(\S+a\.\w+\); resize"
    ):
        read_images({"": tmp_path})
    assert len(decoded) <= most


def test_with_resize_one_image_at_a_time_is_decoded_and_kept_small(tmp_path, monkeypatch):
    """Of ten files there are never two in memory."""
    made, alive, load = [], [], ImageFile.ImageFile.load

    def observed(self):
        made.append(weakref.ref(self))
        alive.append(len({id(image()) for image in made} - {id(None)}))
        return load(self)

    for i in range(10):
        Image.new("RGB", (1000, 1000 + i), (i, i, i)).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", observed)
    read = read_images({"": tmp_path}, resize=4).images[""]
    assert read[:, 0, 0, 0].tolist() == list(range(10))
    assert max(alive) == 1


DISGUISED = ["EPS", "PCX", "TGA", "ICO", "PDF", "SGI", "JPEG2000", "IM"]


@pytest.mark.parametrize("kind", DISGUISED)
def test_a_file_of_another_format_than_its_suffix_says_is_named_and_not_opened(
    tmp_path, monkeypatch, kind
):
    folder = save(tmp_path / "f", pixels((40, 6, 6, 3)))
    Image.fromarray(pixels((6, 6, 3))).save(tmp_path / "f" / "x.png", format=kind)
    Image.fromarray(pixels((6, 6, 3))).save(tmp_path / "f" / "passed-over.tga")
    opened = []
    for name in set(Image.OPEN) - {"PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"}:
        monkeypatch.setitem(Image.OPEN, name, (lambda *_, name=name: opened.append(name), None))
    with pytest.raises(
        UserError, match=r"^1 images cannot be read: .*x\.png \(none of PNG, JPEG, WEBP, BMP, .*\)$"
    ):
        load_dataset(folder)
    assert not opened


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_a_file_of_another_known_format_than_its_suffix_says_is_read(tmp_path, kind):
    Image.fromarray(np.full((6, 6, 3), 200, np.uint8)).save(tmp_path / "x.png", format=kind)
    assert (read_images({"": tmp_path}).images[""].int() - 200).abs().max() <= 1


def test_resizing_keeps_the_middle_square():
    x = torch.zeros(1, 1, 8, 16, dtype=torch.uint8)
    x[..., 4:12] = 200  # the middle square
    small = converted(x, resize=4)
    assert small.shape == (1, 1, 4, 4)
    assert (
        small[..., 1:3] > 195
    ).all()  # the outer ones see a little of what is cut off, as after any antialiasing
    assert (small > 150).all()


@pytest.mark.parametrize(("mode", "value", "expected"), [
    ("L", 100, [100]), ("1", 1, [255]), ("I;16", 257 * 77, [77]), ("LA", (200, 0), [0]),
    ("LA", (200, 255), [200]),
    ("RGB", (1, 2, 3), [1, 2, 3]), ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
    ("RGBA", (10, 20, 30, 0), [0, 0, 0]), ("CMYK", (0, 0, 0, 255), [0, 0, 0]),
])  # fmt: skip
def test_every_mode_becomes_grey_or_colour_bytes(mode, value, expected):
    (image,) = read_images({"": [Image.new(mode, (3, 3), value)]}).images[""]
    assert image.shape == (len(expected), 3, 3)
    assert image[:, 1, 1].tolist() == expected


def test_a_palette_and_a_rotation_tag_are_obeyed(tmp_path):
    image = Image.fromarray(pixels((5, 4, 3)))
    exif = image.getexif()
    exif[0x0112] = 6  # turned a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    image.quantize(8).save(tmp_path / "palette.png")
    read = read_images({"": tmp_path}, resize=4).images[""]
    assert read.shape == (2, 3, 4, 4)
    turned = read_images(
        {"": [Image.open(tmp_path / "turned.png").transpose(Image.Transpose.ROTATE_270)]}, resize=4
    )
    assert (read[1] == turned.images[""][0]).all()


@pytest.mark.parametrize(("array", "message"), [
    (np.zeros((4, 5, 5), np.float32), "must be of bytes"),
    (np.zeros((4, 5), np.uint8), "must be of bytes"),
    (np.zeros((4, 3, 5, 3), np.uint8), "both"),
    (np.zeros((4, 5, 5, 4), np.uint8), "neither"),
])  # fmt: skip
def test_arrays_that_are_no_images_are_refused(array, message):
    with pytest.raises(UserError, match=message):
        as_bytes(array, "x")


@pytest.mark.parametrize(("contents", "message"), [
    ({"a": pixels((20, 4, 4)), "b": pixels((20, 4, 4))}, "it holds a, b"),
    ({"images": pixels((20, 4, 4)), "labels": np.arange(19)}, "labels must be 20 whole numbers"),
    ({"images": pixels((20, 4, 4)), "labels": np.arange(20.0)}, "labels must be 20 whole numbers"),
    ({"images": pixels((9, 4, 4))}, "at least 8 are needed"),
    ({"train": pixels((30, 4, 4)), "test": pixels((30, 5, 5))}, "1x4x4 (train), 1x5x5 (test)"),
])  # fmt: skip
def test_files_that_are_no_data_sets_are_refused(tmp_path, contents, message):
    np.savez(tmp_path / "x.npz", **contents)
    with pytest.raises(UserError) as caught:
        load_dataset(str(tmp_path / "x.npz"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickled_array_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        load_dataset(str(tmp_path / "x.npy"))


def idx(array):
    """MNIST's own file format: two zero bytes, type 8 (bytes), the number of axes, their lengths,
    the data.
    """
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(n.to_bytes(4, "big") for n in array.shape)
        + array.tobytes()
    )


def test_torchvisions_mnist_reads_from_its_files(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    train, test = pixels((90, 28, 28)), pixels((20, 28, 28), 1)
    for stem, images in (("train", train), ("t10k", test)):
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(
            idx((np.arange(len(images)) % 10).astype(np.uint8))
        )
    data = load_dataset("torchvision:MNIST", {"root": str(tmp_path)})
    assert (len(data.train), len(data.validation), len(data.test)) == (81, 9, 20)
    assert {x.tobytes() for x in test} == {x.numpy().tobytes() for x in data.test}
    assert sorted(data.labels["test"].tolist()) == sorted(i % 10 for i in range(20))
    resized = load_dataset(
        "torchvision:MNIST", {"root": str(tmp_path), "resize": 32, "channels": 3}
    )
    assert resized.shape == (3, 32, 32)


def test_a_class_of_torchvision_without_splits_is_split_by_content():
    data = load_dataset(
        "torchvision:FakeData", {"size": 50, "image_size": (3, 8, 8), "validation": 10, "test": 15}
    )
    assert (data.shape, len(data.train), len(data.validation), len(data.test)) == (
        (3, 8, 8),
        25,
        10,
        15,
    )


@pytest.mark.parametrize(("name", "options", "message"), [
    ("torchvision:CIFAR1", {}, "did you mean 'CIFAR10'?"),
    ("torchvision:CIFAR10", {"root": "/nowhere"}, "download=true fetches it"),
    ("torchvision:CIFAR10", {"rot": "x"}, "did you mean 'root'?"),
    ("torchvision:ImageNet", {}, "say which split to take"),
    ("mnist", {"resize": "big"}, "resize must be a whole number"),
    ("mnist", {"channels": 2}, "channels must be 1 (grey) or 3 (colour)"),
    ("mnist", {"rsize": 3}, "did you mean 'resize'?"),
    ("mnits", {}, "did you mean 'mnist'?"),
    ("./nowhere", {}, "there is no folder of images"),
    ("nowhere.npz", {}, "there is no folder of images"),
])  # fmt: skip
def test_names_and_options_that_are_wrong_get_one_line(name, options, message):
    with pytest.raises(UserError) as caught:
        load_dataset(name, options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        load_dataset(str(tmp_path))


def test_the_shipped_mnist_is_split_as_its_card_says():
    data = load_dataset("mnist")
    assert (len(data.train), len(data.validation), len(data.test)) == (7000, 1000, 2000)
    every = {
        x.numpy().tobytes() for split in (data.train, data.validation, data.test) for x in split
    }
    assert len(every) == 10_000
    share = data.labels["train"].bincount() / 7000
    assert (share - data.labels["test"].bincount() / 2000).abs().max() < 1e-3


@pytest.mark.slow
def test_the_shipped_mnist_extractor_is_accurate_and_small():
    from priorbench.assets import folder
    from priorbench.metrics.loading import load_extractor

    data, extractor = load_dataset("mnist"), load_extractor("mnist")
    with torch.no_grad():
        x = data.test.float() / 127.5 - 1
        right = (extractor.classifier(x).argmax(1) == data.labels["test"]).double().mean().item()
    about = json.loads((folder("mnist/extractor") / "extractor.json").read_text())
    assert right >= 0.985
    assert abs(right - about["accuracy"]["test"]) < 1e-3
    assert 64 <= about["features"] <= 128


@pytest.mark.parametrize("name", SPLIT_NAMES)
def test_torchvisions_classes_know_the_splits_that_the_table_gives_them(name):
    cls = getattr(datasets, name)
    assert "split" in inspect.signature(cls).parameters
    for split in SPLIT_NAMES[name]:
        assert f'"{split}"' in inspect.getsource(cls).replace("'", '"')
