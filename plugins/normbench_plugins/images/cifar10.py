"""CIFAR-10 in either of its official forms: the python version, through torchvision, and the binary version.

They lie in FOLDER/cifar-10-batches-py and FOLDER/cifar-10-batches-bin, or packed in FOLDER/cifar-10-python.tar.gz and
FOLDER/cifar-10-binary.tar.gz, which are unpacked after their md5 was compared. Where there is none, torchvision
downloads. Each file's md5 is compared as it is read, because a byte that is wrong would not show otherwise.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10

from normbench.contract import Splits
from normbench.errors import UsageError
from normbench_plugins.images import files
from normbench_plugins.images.splits import Pair, split

VALIDATION = 5_000
SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Version:
    """An official form of the data: its folder, the archive it comes in with its md5, and its files with theirs.

    `read(folder)` returns the training and the test images, and raises UsageError for a damaged file.
    """

    folder: str
    archive: str
    md5: str
    files: dict[str, str]
    read: Callable[[Path], tuple[Pair, Pair]]

    def missing(self, root: Path) -> list[str]:
        """Return the names of the files that are not there."""
        return [name for name in self.files if not (root / self.folder / name).is_file()]


def splits(folder: Path, samples: int) -> Splits:
    """Return the images as bytes, (N, 3, 32, 32): 45,000 to train on, the last 5,000 to validate, 10,000 to test.

    `samples` makes them fewer: see `split`. Raises UsageError where the data is missing and can't be downloaded, or is
    damaged.
    """
    root, version = located(folder)
    train, test = version.read(root)
    return split(train, test, validation=VALIDATION, samples=samples)


def located(folder: Path) -> tuple[Path, Version]:
    """Return the folder that holds one version whole, and the version, unpacked or downloaded where need be."""
    roots = files.roots(folder)
    for i, root in enumerate(roots):
        for version in VERSIONS:
            if not version.missing(root):
                return root, version
        for version in VERSIONS:
            if (root / version.archive).is_file():
                return _unpack(root / version.archive, version, roots[i:]), version
    _refuse_compact(roots)
    return _download(roots), PYTHON


def _unpack(archive: Path, version: Version, roots: tuple[Path, ...]) -> Path:
    """Unpack an archive into the first folder that can be written to, if not there yet, and return that folder."""
    with files.workshop(roots) as (root, temporary):
        missing = version.missing(root)
        if missing:
            with tarfile.open(fileobj=io.BytesIO(files.checked(archive, version.md5))) as opened:
                for name in missing:
                    member = opened.extractfile(f"{version.folder}/{name}")
                    assert member is not None, "the archive is the official one: its md5 was compared"
                    (temporary / name).write_bytes(member.read())
                    files.move(temporary / name, root / version.folder)
    return root


def _refuse_compact(roots: tuple[Path, ...]) -> None:
    """Raise UsageError where the images are there, packed in a way that is not official: no reason to download them."""
    for root in roots:
        for compact in sorted((root / "cifar10").glob("cifar10-*of*.zip")):
            raise UsageError(
                f"CIFAR-10 is there in a compact form only ({compact}): unpack it first, into "
                f"{' or '.join(version.folder for version in VERSIONS)}, and name their folder by --data-dir DIR or "
                f"NORMBENCH_DATA"
            )


def _download(roots: tuple[Path, ...]) -> Path:
    """Have torchvision download the python version and unpack it, and return the folder that it is in."""
    where = " or ".join(str(root) for root in roots)
    names = ", ".join(name for version in VERSIONS for name in (version.folder, version.archive))
    with files.workshop(roots) as (root, temporary):
        with files.downloading(f"CIFAR-10 is not there: none of {names} in {where}{_lacking(roots)}", "one of these"):
            CIFAR10(str(temporary), download=True)
        for name in PYTHON.files:
            files.move(temporary / PYTHON.folder / name, root / PYTHON.folder)
    return root


def _lacking(roots: tuple[Path, ...]) -> str:
    """Say what is missing in the folders that hold a part of a version."""
    parts = [(root, version) for root in roots for version in VERSIONS if (root / version.folder).is_dir()]
    found = [f"{root / version.folder} lacks {', '.join(version.missing(root))}" for root, version in parts]
    return f" whole ({'; '.join(found)})" if found else ""


def _read_python(root: Path) -> tuple[Pair, Pair]:
    try:
        return _pair(CIFAR10(str(root), train=True)), _pair(CIFAR10(str(root), train=False))
    except RuntimeError:
        # torchvision says that a file is damaged, but not which.
        for name, md5 in PYTHON.files.items():
            files.checked(root / PYTHON.folder / name, md5)
        raise


def _pair(data: CIFAR10) -> Pair:
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(data.targets)


def _read_binary(root: Path) -> tuple[Pair, Pair]:
    """Read records of a label and the red, the green and the blue bytes of an image, row by row."""
    batches = [files.checked(root / BINARY.folder / name, md5) for name, md5 in BINARY.files.items()]
    records = torch.frombuffer(bytearray(b"".join(batches)), dtype=torch.uint8).view(-1, 1 + 3 * 32 * 32)
    labels, images = records[:, 0].long(), records[:, 1:].contiguous().view(-1, *SHAPE)
    return (images[:50_000], labels[:50_000]), (images[50_000:], labels[50_000:])


PYTHON = Version(
    "cifar-10-batches-py",
    CIFAR10.filename,
    CIFAR10.tgz_md5,
    {**dict(CIFAR10.train_list), **dict(CIFAR10.test_list), CIFAR10.meta["filename"]: CIFAR10.meta["md5"]},
    _read_python,
)
BINARY = Version(
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
    {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    },
    _read_binary,
)
VERSIONS = (PYTHON, BINARY)
