"""MNIST and Fashion-MNIST as torchvision lays them out: FOLDER/MNIST/raw and FOLDER/FashionMNIST/raw.

Of each of the four files, the unpacked form is read where it is there, whole by its header and its size. Else the
official .gz archive is unpacked, after its md5 was compared. Else torchvision downloads.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from normbench.contract import Splits
from normbench_plugins.images import files
from normbench_plugins.images.splits import split

#: What the header of each file says: a number for the kind of file, and the shape of what follows, one byte a value.
HEADERS = {
    "train-images-idx3-ubyte": (2051, 60_000, 28, 28),
    "train-labels-idx1-ubyte": (2049, 60_000),
    "t10k-images-idx3-ubyte": (2051, 10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (2049, 10_000),
}
VALIDATION = 10_000


def splits(kind: type[MNIST], folder: Path, samples: int) -> Splits:
    """Return the images as bytes, (N, 1, 28, 28): 50,000 to train on, the last 10,000 to validate, 10,000 to test.

    `kind` is torchvision's class; `samples` makes them fewer: see `split`. Raises UsageError where the data is missing
    and can't be downloaded, or is damaged.
    """
    train_images, train_labels, test_images, test_labels = located(kind, folder)
    train = read_image_file(str(train_images)).unsqueeze(1), read_label_file(str(train_labels))
    test = read_image_file(str(test_images)).unsqueeze(1), read_label_file(str(test_labels))
    return split(train, test, validation=VALIDATION, samples=samples)


def located(kind: type[MNIST], folder: Path) -> list[Path]:
    """Return the paths of the four unpacked files, in the order of HEADERS, made where they are missing."""
    folders = tuple(root / kind.__name__ / "raw" for root in files.roots(folder))
    archives = dict(kind.resources)
    found = {name: _unpacked(name, archives[f"{name}.gz"], folders) for name in HEADERS}
    missing = [name for name, file in found.items() if file is None]
    if missing:
        _download(kind, files.roots(folder), missing)
        found = {name: _unpacked(name, archives[f"{name}.gz"], folders) for name in HEADERS}
    return [file for file in found.values() if file is not None]


def _unpacked(name: str, md5: str, folders: tuple[Path, ...]) -> Path | None:
    """Return the path of an unpacked file, made from its archive where need be; None where neither is there."""
    for i, folder in enumerate(folders):
        if (folder / name).exists():
            return _whole(folder / name)
        archive = folder / f"{name}.gz"
        if archive.exists():
            return _unpack(archive, md5, folders[i:])
    return None


def _unpack(archive: Path, md5: str, folders: tuple[Path, ...]) -> Path:
    """Return what an archive holds, unpacked into the first folder that can be written to, if not there yet."""
    with files.workshop(folders) as (folder, temporary):
        unpacked = folder / archive.stem
        if not unpacked.exists():
            made = temporary / archive.stem
            made.write_bytes(gzip.decompress(files.checked(archive, md5)))
            files.move(made, folder)
    return _whole(unpacked)


def _whole(file: Path) -> Path:
    """Return the path of a file whose header and size are right."""
    header = struct.pack(f">{len(HEADERS[file.name])}I", *HEADERS[file.name])
    size = len(header) + math.prod(HEADERS[file.name][1:])
    if file.stat().st_size != size:
        raise files.damaged(file, f"it has {file.stat().st_size} bytes, the official one {size}")
    with file.open("rb") as opened:
        if opened.read(len(header)) != header:
            raise files.damaged(file, "it does not begin like the official one")
    return file


def _download(kind: type[MNIST], roots: tuple[Path, ...], missing: list[str]) -> None:
    """Have torchvision download and unpack, and keep what was missing."""
    where = " or ".join(str(root / kind.__name__ / "raw") for root in roots)
    with files.workshop(roots) as (root, temporary):
        with files.downloading(
            f"{kind.__name__} is not there: no {missing[0]} nor {missing[0]}.gz in {where}",
            f"{kind.__name__}/raw and the four official files {', '.join(f'{name}.gz' for name in HEADERS)} in it",
        ):
            kind(str(temporary), download=True)
        for name in missing:
            files.move(temporary / kind.__name__ / "raw" / name, root / kind.__name__ / "raw")
