"""Image data: where the files of MNIST and Fashion-MNIST are found, how they get there, and what becomes of them."""

import contextlib
import gzip
import hashlib
import http.server
import math
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torchvision import datasets
from torchvision.transforms import functional

import normbench
from normbench_plugins.images import mnist
from normbench_plugins.images.augmentation import crop_and_flip
from normbench_plugins.images.splits import split
from normbench_plugins.images.standardize import Standardize

#: The official headers with a hundredth of the samples: the kind of file, and the shape of what follows.
HEADERS = dict(zip(mnist.FILES, [(2051, 600, 28, 28), (2049, 600), (2051, 100, 28, 28), (2049, 100)], strict=True))


def content(kind, *shape):
    """Return a file with such a header, in which every image and every label is its index's remainder."""
    rest = torch.arange(shape[0]) % (10 if len(shape) == 1 else 251)
    values = rest.to(torch.uint8).repeat_interleave(math.prod(shape[1:]))
    return struct.pack(f">{len(shape) + 1}I", kind, *shape) + values.numpy().tobytes()


CONTENT = {name: content(*header) for name, header in HEADERS.items()}
ARCHIVES = {f"{name}.gz": gzip.compress(CONTENT[name], compresslevel=1) for name in CONTENT}


class MadeUp(datasets.MNIST):
    """A data set like MNIST, of which nobody has a copy: its mirror refuses every connection."""

    mirrors = ("http://127.0.0.1:9/",)
    resources = tuple((name, hashlib.md5(archive).hexdigest()) for name, archive in ARCHIVES.items())


@pytest.fixture
def folder(tmp_path, cache, monkeypatch):
    """Return a data folder without data; the cache folder is another one, and empty too."""
    md5s = tuple(hashlib.md5(CONTENT[name]).hexdigest() for name in mnist.FILES)
    monkeypatch.setitem(mnist.UNPACKED, "MadeUp", md5s)
    monkeypatch.setattr(mnist, "VALIDATION", mnist.VALIDATION // 100)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def put(root, files):
    """Write files where the made-up data set has them."""
    raw = root / "MadeUp" / "raw"
    raw.mkdir(parents=True)
    for name, written in files.items():
        (raw / name).write_bytes(written)
    return raw


@contextlib.contextmanager
def read_only(*folders):
    for folder in folders:
        folder.chmod(0o555)
    try:
        yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.fixture
def mirror(monkeypatch):
    """Run a mirror on this machine that has the archives, and list the names of those that were asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            asked.append(name)
            self.send_response(200)
            self.send_header("Content-Length", str(len(ARCHIVES[name])))
            self.end_headers()
            self.wfile.write(ARCHIVES[name])

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    monkeypatch.setattr(MadeUp, "mirrors", (f"http://127.0.0.1:{server.server_port}/",))
    yield asked
    server.shutdown()
    server.server_close()


def whole(splits):
    """Whether the splits hold the made-up data, every image with its label."""
    (train, _), (validation, _), (test, _) = splits.train, splits.validation, splits.test
    first = [part[:, 0, 27, 27].tolist() for part in (train, validation, test)]
    return first == [[i % 251 for i in range(*ends)] for ends in ((0, 500), (500, 600), (0, 100))]


@pytest.mark.parametrize("files", [CONTENT, ARCHIVES], ids=["unpacked", "archives"])
def test_images_are_bytes_and_the_last_training_images_validate(folder, files):
    """The last sixth of the training images is held out; images are bytes of one channel, labels whole numbers."""
    put(folder, files)

    found = mnist.splits(MadeUp, folder, 0)

    parts = (found.train, found.validation, found.test)
    assert [(500, 1, 28, 28), (100, 1, 28, 28), (100, 1, 28, 28)] == [images.shape for images, _ in parts]
    assert {(torch.uint8, torch.int64)} == {(images.dtype, labels.dtype) for images, labels in parts}
    assert whole(found)
    assert [[0, 1, 2]] * 3 == [labels[:3].tolist() for _, labels in parts]


def test_archives_are_unpacked_beside_themselves(folder, cache):
    """In a data folder that can be written to the four unpacked files appear, and nothing else."""
    raw = put(folder, ARCHIVES)

    mnist.splits(MadeUp, folder, 0)

    assert sorted([*CONTENT, *ARCHIVES]) == sorted(file.name for file in raw.iterdir())
    assert CONTENT == {name: (raw / name).read_bytes() for name in CONTENT}
    assert not cache.exists()


def test_archives_in_a_read_only_folder_are_unpacked_into_the_cache_folder_once(folder, cache):
    """A read-only data folder stays as it is; what the first run unpacked into the cache folder, the next one reads."""
    raw = put(folder, ARCHIVES)
    with read_only(raw):
        mnist.splits(MadeUp, folder, 0)
        made = {file.name: file.stat().st_mtime_ns for file in (cache / "MadeUp" / "raw").iterdir()}

        found = mnist.splits(MadeUp, folder, 0)

    assert whole(found)
    assert sorted(CONTENT) == sorted(made)
    assert made == {file.name: file.stat().st_mtime_ns for file in (cache / "MadeUp" / "raw").iterdir()}
    assert sorted(ARCHIVES) == sorted(file.name for file in raw.iterdir())


def test_no_folder_to_unpack_into(folder, cache):
    """Where neither the data folder nor the cache folder can be written to, the message names both."""
    raw = put(folder, ARCHIVES)
    cache.mkdir(parents=True)

    with read_only(raw, cache), pytest.raises(normbench.UsageError) as refused:
        mnist.splits(MadeUp, folder, 0)

    assert all(str(part) in str(refused.value) for part in (raw, cache, "--data-dir"))


def test_what_a_killed_run_left_is_not_taken_for_data(folder):
    """Half a file, under the name of a temporary folder, disturbs nobody."""
    raw = put(folder, ARCHIVES)
    left = raw / ".normbench-killed"
    left.mkdir()
    (left / "train-images-idx3-ubyte").write_bytes(CONTENT["train-images-idx3-ubyte"][:1000])

    found = mnist.splits(MadeUp, folder, 0)

    assert whole(found)


def test_several_runs_at_once_all_get_whole_files(folder):
    """Runs that unpack the same archives at the same time do each other no harm."""
    put(folder, ARCHIVES)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: mnist.splits(MadeUp, folder, 0), range(4)))

    assert all(whole(splits) for splits in found)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        pytest.param("t10k-labels-idx1-ubyte.gz", lambda whole: whole[:-9] + b"x" + whole[-8:], id="archive-bit"),
        pytest.param("train-images-idx3-ubyte.gz", lambda whole: whole[:1000], id="archive-cut"),
        pytest.param("train-images-idx3-ubyte", lambda whole: whole[:-1], id="unpacked-cut"),
        pytest.param("train-labels-idx1-ubyte", lambda whole: b"", id="unpacked-empty"),
        pytest.param("t10k-images-idx3-ubyte", lambda whole: b"\x1f\x8b" + whole[2:], id="unpacked-header"),
        pytest.param("train-labels-idx1-ubyte", lambda whole: whole[:-9] + b"x" + whole[-8:], id="unpacked-label"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(folder, name, broken):
    """An archive or an unpacked file whose md5 is wrong is named with its full path."""
    raw = put(folder, ARCHIVES)
    (raw / name).write_bytes(broken({**CONTENT, **ARCHIVES}[name]))

    with pytest.raises(normbench.UsageError) as refused:
        mnist.splits(MadeUp, folder, 0)

    assert f"{raw / name} is damaged" in str(refused.value)
    assert "delete it" in str(refused.value)


def test_missing_data_that_cannot_be_downloaded_is_said_in_one_line(folder, cache):
    """The line says what is missing, where it was looked for, why the download failed, and what to do."""
    with pytest.raises(normbench.UsageError) as refused:
        mnist.splits(MadeUp, folder, 0)

    said = str(refused.value)
    expected = ("MadeUp is not there", "train-images-idx3-ubyte.gz", str(folder), str(cache), "refused", "--data-dir")
    assert [] == [part for part in (*expected, "NORMBENCH_DATA", *ARCHIVES) if part not in said]
    assert "\n" not in said
    assert [] == list(folder.iterdir())


def test_missing_data_is_downloaded_into_the_data_folder_once(folder, cache, mirror, capsys):
    """What is nowhere is downloaded into the data folder, nothing is printed to stdout, and the next run reads it."""
    first = mnist.splits(MadeUp, folder, 0)
    asked = list(mirror)

    second = mnist.splits(MadeUp, folder, 0)

    assert whole(first)
    assert whole(second)
    assert sorted(ARCHIVES) == sorted(set(asked))
    assert asked == mirror
    assert ["MadeUp"] == [file.name for file in folder.iterdir()]
    assert not cache.exists()
    assert capsys.readouterr().out == ""


def test_a_read_only_folder_without_data_has_it_downloaded_into_the_cache_folder(folder, cache, mirror):
    """Where the data folder can't be written to, the download goes into the cache folder."""
    with read_only(folder):
        found = mnist.splits(MadeUp, folder, 0)

    assert whole(found)
    assert sorted(CONTENT) == sorted(file.name for file in (cache / "MadeUp" / "raw").iterdir())


def test_a_data_folder_that_does_not_exist_is_made(folder, mirror):
    """The user's cache folder need not be there before the first download."""
    found = mnist.splits(MadeUp, folder / "new" / "data", 0)

    assert whole(found)


@pytest.mark.parametrize(
    ("samples", "expected"), [(0, (90, 10, 20)), (90, (90, 10, 20)), (45, (45, 5, 10)), (1, (1, 1, 1))]
)
def test_fewer_samples_take_the_first_of_each_split(samples, expected):
    """The first training images, and the same share of the first validation and test images, at least one."""
    train, test = torch.arange(100), torch.arange(20)

    found = split((train, train), (test, test), validation=10, samples=samples)

    assert expected == (len(found.train[0]), len(found.validation[0]), len(found.test[0]))
    assert [0, 90, 0] == [part[0][0].item() for part in (found.train, found.validation, found.test)]


@pytest.mark.parametrize("samples", [-1, 91])
def test_more_samples_than_there_are_is_refused(samples):
    """The message says how many there are."""
    images = torch.arange(100)

    with pytest.raises(normbench.UsageError, match=f"samples is {samples}; it is 1 to 90 training images, or 0"):
        split((images, images), (images, images), validation=10, samples=samples)


@pytest.fixture
def images():
    return torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


MEAN, STD = [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]


def test_standardized_bytes_are_what_torchvision_makes_of_the_image(images):
    """The module gives what ToTensor and Normalize give, in float32."""
    expected = torch.stack(
        [functional.normalize(functional.to_tensor(image.permute(1, 2, 0).numpy()), MEAN, STD) for image in images]
    )

    found = Standardize(MEAN, STD)(images)

    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_standardization_keeps_the_memory_format_and_float32_under_autocast(images, memory_format):
    """Images in channels_last stay so, and bfloat16 begins at the first convolution."""
    module = Standardize(MEAN, STD)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(images.to(memory_format=memory_format))
        after = nn.Conv2d(3, 4, 3)(found)

    assert found.is_contiguous(memory_format=memory_format)
    assert [torch.float32, torch.bfloat16] == [found.dtype, after.dtype]


def loop(images, draws):
    """Crop and mirror one image after the other, with torchvision's functions."""
    made = []
    for image, (down, right, mirrored) in zip(images, draws.tolist(), strict=True):
        cut = functional.crop(functional.pad(image, [4]), int(9 * down), int(9 * right), *image.shape[1:])
        made.append(functional.hflip(cut) if mirrored < 0.5 else cut)
    return torch.stack(made)


def test_a_batch_is_cropped_and_mirrored_as_one_image_after_the_other_would_be(images):
    """Every image is padded with black, cut where its own draws say, and mirrored or not."""
    draws = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
    # The least and the greatest number that is drawn, for each of the three.
    draws[:2] = torch.tensor([[0.0], [1 - 2**-24]])

    found = crop_and_flip(images, draws)

    assert torch.equal(loop(images, draws), found)
    assert found.dtype == torch.uint8


def test_every_place_and_both_sides_are_equally_likely():
    """Draws that are spread evenly give each of the 81 cuts, and both sides, equally often."""
    at = (torch.arange(9) + 0.5) / 9
    draws = torch.cartesian_prod(at, at, torch.tensor([0.25, 0.75]))
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).expand(len(draws), 1, 8, 8)

    found = crop_and_flip(image, draws)

    assert 9 * 9 * 2 == len(found.flatten(1).unique(dim=0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_batch_is_cropped_and_mirrored_alike_on_a_gpu(images):
    """The same draws give the same images on every device, without waiting for it."""
    draws = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
    on_gpu = images.cuda(), draws.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = crop_and_flip(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert torch.equal(crop_and_flip(images, draws), found.cpu())


@pytest.mark.parametrize(
    ("kind", "test_labels"), [(datasets.MNIST, [7, 2, 1, 0, 4]), (datasets.FashionMNIST, [9, 2, 1, 1, 6])]
)
def test_the_official_archives_are_read(real, kind, test_labels):
    """From a folder with the official archives come the official images and labels, in their order."""
    found = mnist.splits(kind, real, 0)

    assert test_labels == found.test[1][:5].tolist()
    assert [50_000, 10_000, 10_000] == [len(images) for images, _ in (found.train, found.validation, found.test)]
    assert list(range(10)) == found.train[1].unique().tolist()
