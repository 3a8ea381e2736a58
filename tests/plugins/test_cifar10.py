"""The task cifar10-resnet20: its data in both official versions, the published network and recipe, and trainings."""

import dataclasses
import hashlib
import io
import tarfile

import pytest
import torch
from torch import nn

import normbench
from normbench.registry import Offered, Plugin
from normbench.train import fit
from normbench.train.assemble import network
from normbench.trials import Trial
from normbench_plugins.images import cifar10 as data
from normbench_plugins.images.resnet import ResidualBlock

NORMS = ["none", "batchnorm", "batchnorm-no-affine", "batchnorm-after", "layer-norm"]


def resnet20(registry, norm="batchnorm", samples=0, **recipe):
    task = registry.task("cifar10-resnet20")
    return Trial(
        task=task.name, task_version=task.version, task_params={"samples": samples} if samples else {}, norm=norm,
        recipe=task.recipe.changed(**recipe), seed=0,
    )  # fmt: skip


# The data: which of the versions is taken, and what is said of one that can't be.


@pytest.fixture
def folder(tmp_path, cache):
    """Return a data folder without data; the cache folder is another one, and empty too."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def archives(monkeypatch):
    """Make archives that hold made-up files under the official names, and have them taken for the official ones."""
    made, versions = {}, []
    for version in data.VERSIONS:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name in version.files:
                member = tarfile.TarInfo(f"{version.folder}/{name}")
                member.size = len(name)
                archive.addfile(member, io.BytesIO(name.encode()))
        made[version.archive] = packed.getvalue()
        versions.append(dataclasses.replace(version, md5=hashlib.md5(packed.getvalue()).hexdigest()))
    monkeypatch.setattr(data, "VERSIONS", tuple(versions))
    return made


@pytest.fixture
def offline(monkeypatch):
    """Have every download refused."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(data.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")


def put(folder, version, content=b"made up"):
    (folder / version.folder).mkdir()
    for name in version.files:
        (folder / version.folder / name).write_bytes(content)


@pytest.mark.parametrize("version", data.VERSIONS, ids=["python", "binary"])
def test_a_whole_version_is_taken_where_it_lies(folder, version):
    """Either version in the data folder will do, and an incomplete one beside it does not matter."""
    other = next(other for other in data.VERSIONS if other is not version)
    put(folder, version)
    put(folder, other)
    (folder / other.folder / list(other.files)[2]).unlink()

    found = data.located(folder)

    assert (folder, version) == found


@pytest.mark.parametrize("packed", ["cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"])
@pytest.mark.parametrize("read_only", [False, True])
def test_an_archive_is_unpacked(folder, cache, archives, packed, read_only):
    """Either official archive is unpacked beside itself, or into the cache folder where it lies read-only."""
    (folder / packed).write_bytes(archives[packed])
    folder.chmod(0o555 if read_only else 0o755)

    root, version = data.located(folder)

    folder.chmod(0o755)
    assert (cache if read_only else folder) == root
    assert packed == version.archive
    assert {name: name for name in version.files} == {
        file.name: file.read_text() for file in (root / version.folder).iterdir()
    }
    expected = {packed} if read_only else {packed, version.folder}
    assert expected == {file.name for file in folder.iterdir()}


def test_a_damaged_archive_is_named(folder, archives):
    """An archive that was cut off is named with its full path."""
    (folder / "cifar-10-python.tar.gz").write_bytes(archives["cifar-10-python.tar.gz"][:-20])

    with pytest.raises(normbench.UsageError) as refused:
        data.located(folder)

    assert f"{folder / 'cifar-10-python.tar.gz'} is damaged" in str(refused.value)


@pytest.mark.parametrize(("version", "first"), [(data.PYTHON, "data_batch_1"), (data.BINARY, "data_batch_1.bin")])
def test_files_that_are_not_the_official_ones_are_refused(folder, version, first):
    """Each file's md5 is compared, and the first that is wrong is named."""
    put(folder, version)

    with pytest.raises(normbench.UsageError) as refused:
        data.splits(folder, 0)

    assert f"{folder / version.folder / first} is damaged" in str(refused.value)


def test_the_compact_form_alone_is_refused(folder):
    """The message says that the data is there in a compact form, and has to be unpacked first."""
    (folder / "cifar10").mkdir()
    (folder / "cifar10" / "cifar10-1of2.zip").write_bytes(b"")

    with pytest.raises(normbench.UsageError, match=r"compact form only.*cifar10-1of2\.zip.*unpack it first"):
        data.splits(folder, 0)


def test_missing_data_that_cannot_be_downloaded_is_said_in_one_line(folder, cache, offline):
    """The line says what was looked for and where, which files a version lacks, why the download failed, what to do."""
    put(folder, data.PYTHON)
    (folder / "cifar-10-batches-py" / "data_batch_3").unlink()

    with pytest.raises(normbench.UsageError) as refused:
        data.splits(folder, 0)

    said = str(refused.value)
    names = [name for version in data.VERSIONS for name in (version.folder, version.archive)]
    expected = (*names, f"{folder / 'cifar-10-batches-py'} lacks data_batch_3", str(cache), "refused", "--data-dir")
    assert [] == [part for part in (*expected, "NORMBENCH_DATA") if part not in said]
    assert "\n" not in said


@pytest.mark.slow
def test_both_versions_give_the_same_images(cifar10, tmp_path, cache):
    """45,000 images to train on, 5,000 to validate, 10,000 to test: byte for byte the same from either version."""
    found = []
    for version in data.VERSIONS:
        (tmp_path / version.folder).mkdir()
        (tmp_path / version.folder / version.folder).symlink_to(cifar10 / version.folder)
        found.append(data.splits(tmp_path / version.folder, 0))

    python, binary = ([part for split in (s.train, s.validation, s.test) for part in split] for s in found)
    assert all(torch.equal(one, other) for one, other in zip(python, binary, strict=True))
    assert [45_000, 5_000, 10_000] == [len(images) for images in python[::2]]
    assert all(images.shape[1:] == (3, 32, 32) and images.dtype == torch.uint8 for images in python[::2])
    assert [6, 9, 9, 4, 1] == python[1][:5].tolist()
    assert [3, 8, 8, 0, 6] == python[5][:5].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("file", ["cifar-10-batches-py/data_batch_3", "cifar-10-batches-bin/test_batch.bin"])
def test_a_single_wrong_byte_is_found(cifar10, tmp_path, cache, file):
    """Of six whole batches the one in which a pixel differs is named."""
    version = next(version for version in data.VERSIONS if file.startswith(version.folder))
    (tmp_path / version.folder).mkdir()
    for name in version.files:
        (tmp_path / version.folder / name).symlink_to(cifar10 / version.folder / name)
    content = bytearray((tmp_path / file).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / file).unlink()
    (tmp_path / file).write_bytes(content)

    with pytest.raises(normbench.UsageError) as refused:
        data.splits(tmp_path, 0)

    assert f"{tmp_path / file} is damaged" in str(refused.value)


# The network and the recipe.


def test_the_recipe_is_the_published_one(builtin):
    """SGD at .1 with momentum .9, batches of 128, 250 epochs, a tenth at 100, 150 and 200, weight decay 2e-4 on all."""
    recipe = builtin.task("cifar10-resnet20").recipe

    assert ("sgd", 0.1, 0.9, 128, 250) == (
        recipe.optimizer, recipe.rate, recipe.momentum, recipe.batch_size, recipe.epochs
    )  # fmt: skip
    assert ("steps", 0.1) == (recipe.schedule, recipe.milestone_factor)
    assert [100, 150, 200] == [round(milestone * recipe.epochs) for milestone in recipe.milestones]
    assert (2e-4, "nothing") == (recipe.weight_decay, recipe.weight_decay_spares)


@pytest.mark.parametrize(
    ("norm", "expected"), [("batchnorm", 272_474), ("batchnorm-no-affine", 270_906), ("none", 270_906)]
)
def test_the_network_has_the_published_number_of_parameters(builtin, norm, expected):
    """270,906 in linears and convolutions without bias, and gamma and beta for 784 channels, projections included."""
    found = sum(parameter.numel() for parameter in network(resnet20(builtin, norm), builtin).parameters())

    assert expected == found


def test_the_network_has_three_stages_of_three_blocks(builtin):
    """32 x 32 maps of 16 channels become 16 x 16 of 32 and 8 x 8 of 64; the two changes have a projection."""
    built = network(resnet20(builtin), builtin)
    sizes = []
    for module in built.modules():
        if isinstance(module, ResidualBlock):
            module.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))

    outputs = built(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))

    assert [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3 == sizes
    assert (2, 10) == outputs.shape
    projections = [m for m in built.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert [(16, 32), (32, 64)] == [(projection.in_channels, projection.out_channels) for projection in projections]


def test_convolutions_are_he_normal_by_fan_out(builtin):
    """A convolution's weights have the variance 2 / (k k channels out), whatever the norm, and the same at one seed."""
    built = [network(resnet20(builtin, norm), builtin) for norm in ("none", "batchnorm-after")]

    none, after = ([m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in built)

    for one, other in zip(none, after, strict=True):
        assert torch.equal(one.weight, other.weight)
        expected = (2 / (one.kernel_size[0] ** 2 * one.out_channels)) ** 0.5
        torch.testing.assert_close(one.weight.std().item(), expected, rtol=0.12, atol=0)


def test_a_block_is_the_published_one(builtin):
    """relu(norm(conv(relu(norm(conv(x))))) + norm(projection(x))), with batch norm written out."""
    built = network(resnet20(builtin), builtin)
    block = next(m for m in built.modules() if isinstance(m, ResidualBlock) and m.first[0].stride == (2, 2))
    first, second, projection = (m for m in block.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(8, 16, 32, 32, generator=torch.Generator().manual_seed(0))

    found = block(x)

    inner = torch.relu(nn.BatchNorm2d(32)(first(x)))
    expected = torch.relu(nn.BatchNorm2d(32)(second(inner)) + nn.BatchNorm2d(32)(projection(x)))
    torch.testing.assert_close(found, expected)


def test_dropout_stands_before_the_last_linear(builtin):
    """The recipe's dropout acts once, on what the last linear takes."""
    built = network(resnet20(builtin, dropout=0.25), builtin)

    found = [type(module) for module in built.modules() if isinstance(module, nn.Linear | nn.Dropout)]

    assert [nn.Dropout, nn.Linear] == found


# Trainings: on images that are made up where the real ones are not at hand.


@pytest.fixture
def small(builtin):
    """Return a registry whose cifar10-resnet20 has a few made-up images, and in which is a norm of each placement."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (96, 3, 32, 32), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 10, (96,), generator=generator)
    splits = normbench.Splits(*((inputs[i : i + 32], targets[i : i + 32]) for i in (0, 32, 64)))
    task = dataclasses.replace(builtin.task("cifar10-resnet20"), data=lambda folder, recipe: splits)
    plugin = Plugin("made-up", "tests")
    norms = [
        normbench.Norm("fused", lambda site: nn.ReLU() if site.activation else nn.Identity(), summary="f",
                       placement="fused"),
        normbench.Norm("weight", lambda site, module: nn.utils.parametrizations.weight_norm(module), summary="w",
                       placement="weight"),
    ]  # fmt: skip
    return dataclasses.replace(
        builtin,
        tasks={**builtin.tasks, task.name: Offered(task, plugin)},
        norms={**builtin.norms, **{norm.name: Offered(norm, plugin) for norm in norms}},
    )


@pytest.mark.parametrize("norm", [*NORMS, "fused", "weight"])
def test_every_built_in_norm_and_every_placement_trains_a_few_steps(small, norm):
    """A norm of every placement finds its sites in the residual network, and two steps leave finite losses."""
    found = next(fit([resnet20(small, norm, batch_size=16, epochs=1)], registry=small))

    assert ("", 2) == (found.reason, found.steps)
    assert found.outcome in ("trained", "not-trained")


@pytest.mark.parametrize("recipe", [{"precision": "bf16"}, {"channels_last": True}], ids=["bf16", "channels-last"])
def test_it_trains_with_the_settings_of_a_gpu(small, recipe):
    """Bytes as inputs go with bfloat16 autocast and with channels_last."""
    found = next(fit([resnet20(small, batch_size=16, epochs=1, **recipe)], registry=small))

    assert ("", 2) == (found.reason, found.steps)


@pytest.mark.slow
def test_training_on_real_images_learns(builtin, cifar10, cache):
    """On a subset of the real images, 20 steps lower the loss."""
    trial = resnet20(builtin, samples=320, batch_size=32, epochs=2)

    found = next(fit([trial], registry=builtin, data_dir=str(cifar10)))

    assert ("", 20) == (found.reason, found.steps)
    assert found.series["loss"][1] < 0.95 * found.series["loss"][0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_training_on_a_gpu_learns(builtin, cifar10, cache):
    """Two epochs on all real images, in bfloat16 and channels_last, are well above chance."""
    trial = resnet20(builtin, epochs=2, precision="bf16", channels_last=True)

    found = next(fit([trial], registry=builtin, device="cuda", data_dir=str(cifar10)))

    assert "" == found.reason
    assert found.score > 0.4
