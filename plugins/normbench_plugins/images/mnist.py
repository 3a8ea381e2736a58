"""MNIST and Fashion-MNIST as torchvision lays them out: FOLDER/MNIST/raw and FOLDER/FashionMNIST/raw.

Of each of the four files, the unpacked form is read where it is there, else the official .gz archive is unpacked, else
torchvision downloads. The md5 of either form is compared, because a byte that is wrong would not show otherwise.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from normbench.contract import Recipe, Splits
from normbench_plugins.images import files
from normbench_plugins.images.splits import noise, split

#: The four files, and the md5 of each, unpacked, in either data set; torchvision knows those of the archives.
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
UNPACKED = {
    "MNIST": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "FashionMNIST": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}
VALIDATION = 10_000
#: Those of the tasks that validate every few steps.
FEW = 1_000


def often_validated(folder: Path, recipe: Recipe, samples: int) -> Splits:  # noqa: ARG001 - a task's data takes both
    """Return MNIST with few images to validate: see `splits`."""
    return splits(MNIST, folder, samples, validation=FEW)


def example(recipe: Recipe) -> Tensor:  # noqa: ARG001 - as all of a task's functions
    """Return images of noise, as bytes."""
    return noise(1, 28)


def splits(kind: type[MNIST], folder: Path, samples: int, validation: int | None = None) -> Splits:
    """Return the images as bytes, (N, 1, 28, 28): of 60,000 the last `validation` to validate, and 10,000 to test.

    `kind` is torchvision's class; `validation` left out is VALIDATION; `samples` makes them fewer: see `split`. Raises
    UsageError where the data is missing and can't be downloaded, or is damaged.
    """
    train_images, train_labels, test_images, test_labels = located(kind, folder)
    train = read_image_file(str(train_images)).unsqueeze(1), read_label_file(str(train_labels))
    test = read_image_file(str(test_images)).unsqueeze(1), read_label_file(str(test_labels))
    return split(train, test, validation=validation or VALIDATION, samples=samples)


def located(kind: type[MNIST], folder: Path) -> list[Path]:
    """Return the paths of the four unpacked files, in the order of FILES, made where they are missing.

    Raises UsageError for one that is damaged.
    """
    folders = tuple(root / kind.__name__ / "raw" for root in files.roots(folder))
    archives = dict(kind.resources)
    found = {name: _unpacked(name, archives[f"{name}.gz"], folders) for name in FILES}
    missing = [name for name, file in found.items() if file is None]
    if missing:
        _download(kind, files.roots(folder), missing)
        found = {name: _unpacked(name, archives[f"{name}.gz"], folders) for name in FILES}
    whole = [file for file in found.values() if file is not None]
    for file, md5 in zip(whole, UNPACKED[kind.__name__], strict=True):
        files.checked(file, md5)
    return whole


def _unpacked(name: str, md5: str, folders: tuple[Path, ...]) -> Path | None:
    """Return the path of an unpacked file, made from its archive where need be; None where neither is there."""
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    for i, folder in enumerate(folders):
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
    return unpacked


def _download(kind: type[MNIST], roots: tuple[Path, ...], missing: list[str]) -> None:
    """Have torchvision download and unpack, and keep what was missing."""
    where = " or ".join(str(root / kind.__name__ / "raw") for root in roots)
    with files.workshop(roots) as (root, temporary):
        with files.downloading(
            f"{kind.__name__} is not there: no {missing[0]} nor {missing[0]}.gz in {where}",
            f"{kind.__name__}/raw and the four official files {', '.join(f'{name}.gz' for name in FILES)} in it",
        ):
            kind(str(temporary), download=True)
        for name in missing:
            files.move(temporary / kind.__name__ / "raw" / name, root / kind.__name__ / "raw")
