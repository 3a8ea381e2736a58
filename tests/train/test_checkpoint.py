"""A training that is killed goes on from its checkpoint, to the bit; a checkpoint that is no good fails nothing."""

import errno
import hashlib
import os
import random
import shutil
import signal
import sys
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
import zygote
from torch import nn

import normbench
from normbench import plugins
from normbench.registry import Offered, Plugin
from normbench.train import checkpoint, fit, fit_pack
from normbench.train.checkpoint import Checkpoints
from normbench.trials import Pack, Trial


class Killed(BaseException):
    """What ends a training here in place of a signal."""


class Odd(nn.Module):
    """Keeps state in every way that comes back: see the comments."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        # A buffer that is made in the first step, and grows.
        self.register_buffer("seen", None)
        # A buffer that another module refers to.
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("unsaved", torch.zeros(1), persistent=False)
        self.scales = [self.scale]
        # In training from the first evaluation on.
        self.frozen = nn.Dropout(0.1).eval()
        self.count = 0

    def get_extra_state(self):
        return {"count": self.count}

    def set_extra_state(self, state):
        self.count = state["count"]

    def on_step(self, step, steps):
        if self.weight.grad is not None:
            self.unsaved += self.weight.grad

    def forward(self, x):
        if self.training:
            self.count += 1
            self.scale.fill_(1 + 0.01 * random.random() + 0.01 * np.random.rand() + 0.001 * self.count)
            mean = x.detach().mean().view(1)
            self.seen = mean if self.seen is None else torch.cat([self.seen, mean])
        return self.frozen(x - self.seen.mean() + 0.01 * self.unsaved) * self.weight * self.scales[0]


class Freezing(nn.Module):
    """Keeps state in ways that torch has no place for: weights frozen for a while, and what `keep` does in a step."""

    def __init__(self, keep=lambda layer, step: None):
        super().__init__()
        self.keep = keep
        self.weight, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
        self.register_buffer("scale", torch.ones(1))
        self.inner = nn.Dropout(0.2)
        self.factor, self.state, self.kept = 1.0, {"shares": [1.0]}, (self.scale, torch.ones(1))
        self.generator, self.steps = torch.Generator().manual_seed(7), deque()

    def on_step(self, step, steps):
        if step in (2, 9):
            self.weight.requires_grad_(step == 9)
            self.inner.train(step == 9)
        self.keep(self, step)

    def forward(self, x):
        share = self.state["shares"][-1] + 0.01 * len(self.steps)
        return self.inner(x) * self.weight * self.factor * share * self.kept[0] * self.kept[1] * self.scale + self.bias


def _numbers(layer, step):
    layer.factor, layer.count = 1 + 0.1 * step, step
    layer.state["shares"].append(layer.state["shares"][-1] * 0.98)
    layer.state["step"] = torch.tensor(float(step))
    layer.kept[0].mul_(1.01)
    layer.kept[1].mul_(0.97)


#: What a layer does in a step that comes back, and what does not.
KEPT = {"flags": lambda layer, step: None, "plain": _numbers}
LOST = {
    "an object": lambda layer, step: layer.steps.append(step) if step > 4 else None,
    "a generator": lambda layer, step: torch.rand(1, generator=layer.generator) if step > 4 else None,
    "a hook": lambda layer, step: layer.register_forward_hook(lambda *given: None) if step > 4 else None,
    "what it lacks": lambda layer, step: vars(layer).pop("generator", None) if step > 4 else None,
}


class Fingerprint:
    """Gives a hash of all weights and buffers, and the number of the epoch."""

    def __init__(self, network):
        self.network = network

    def on_epoch(self, epoch):
        digest = hashlib.sha256()
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return {"fingerprint": float(int.from_bytes(digest.digest()[:6], "big")), "epoch": float(epoch)}


class Summing:
    """Gives the sum of the first weight after all epochs so far."""

    def __init__(self, network):
        self.weight, self.total = next(network.parameters()), torch.zeros(())

    def on_epoch(self, epoch):
        self.total = self.total + self.weight.detach().sum()
        return {"total": self.total}

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


def _data(folder, recipe):
    inputs = torch.randn(40, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    targets = (inputs.mean((1, 2, 3)) > 0).long()
    return normbench.Splits((inputs[:24], targets[:24]), (inputs[24:32], targets[24:32]), (inputs[32:], targets[32:]))


def _network(place, recipe):
    dropout = [nn.Dropout(recipe.dropout)] if recipe.dropout else []
    linear = place(nn.Conv2d(2, 4, 3, padding=1), "relu")
    return nn.Sequential(linear, *dropout, nn.Flatten(), nn.Linear(64, 2))


@pytest.fixture
def registry(registry):
    """Return the tiny plugin, what is built in, and a task on images whose samples are changed by their draws."""
    plugin, built_in = Plugin("small", "tests"), plugins.current()
    small = normbench.Task(
        "small", 1, summary="Images", recipe=normbench.Recipe(rate=0.1, batch_size=4, epochs=2), chance=0.5,
        reference=1.0, data=_data, network=_network, augment_draws=1,
        augment=lambda inputs, draws: inputs + 0.1 * draws.view(-1, 1, 1, 1),
    )  # fmt: skip
    registry.tasks["small"] = Offered(small, plugin)
    registry.norms.update(built_in.norms)
    registry.norms["odd"] = Offered(normbench.Norm("odd", lambda site: Odd(), summary="O"), plugin)
    for name, keep in (KEPT | LOST).items():
        layer = normbench.Norm(f"keeps-{name.replace(' ', '-')}", lambda site, keep=keep: Freezing(keep), summary="K")
        registry.norms[layer.name] = Offered(layer, plugin)
    for name, watch in (("fingerprint", Fingerprint), ("summing", Summing)):
        registry.probes[name] = Offered(normbench.Probe(name, watch, summary="P"), plugin)
    return registry


@pytest.fixture
def saving(monkeypatch):
    """Return what a test says of the checkpoints of its trainings, and which were saved."""
    said = SimpleNamespace(every=1, kill_after=(), saved=[])
    save = Checkpoints.save

    def saves(self, module):
        if module.taken % said.every == 0:
            save(self, module)
            said.saved.append(module.taken)
        if module.taken in said.kill_after:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", saves)
    return said


def trial_of(norm="batchnorm", **recipe):
    values = {"rate": 0.1, "batch_size": 4, **({} if "steps" in recipe else {"epochs": 2}), **recipe}
    return Trial(task="small", task_version=1, norm=norm, recipe=normbench.Recipe(**values), seed=3)


def outcome_of(trial, registry, folder="", probes=("fingerprint",)):
    return next(fit([trial], registry=registry, probes=probes, checkpoint=str(folder)))


def measured(outcome):
    scores = outcome.outcome, outcome.score, outcome.validation, outcome.steps, outcome.diverged_at
    return *scores, outcome.series, outcome.validated, repr(outcome.traces)  # in which a loss may be nan


def kill(trial, registry, folder, saving, *steps, **options):
    """Train, and be killed after each of the steps."""
    for step in steps:
        saving.kill_after = (step,)
        with pytest.raises(Killed):
            outcome_of(trial, registry, folder, **options)
    saving.kill_after = ()


RECIPES = {
    "momentum-cosine": {"momentum": 0.9, "schedule": "cosine", "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "rate": 0.01},
    "dropout": {"dropout": 0.3, "epochs": 3},
    "validated-within": {"dropout": 0.3, "validate_every": 5},
    "steps": {"steps": 9, "schedule": "one-cycle", "optimizer": "adamw", "rate": 0.01, "weight_decay": 0.1},
    "accumulate": {
        "accumulate": 2,
        "momentum": 0.9,
        "schedule": "steps",
        "weight_decay": 0.01,
        "weight_decay_spares": "norms-and-biases",
    },
    "bf16": {"precision": "bf16", "channels_last": True, "momentum": 0.9},
}


#: Each recipe with the norm that keeps state in every way, each norm with one recipe; and what could come in its way.
KILLED = [
    *(("odd", recipe) for recipe in RECIPES),
    *((norm, "momentum-cosine") for norm in ("batchnorm", "online-norm", "batch-renorm", "layer-norm", "drawing")),
    ("drawing", "dropout"),  # both draw
    ("online-norm", "accumulate"),  # its backward has a state
    ("online-norm", "bf16"),
    ("everything", "accumulate"),  # after_step and before_evaluation change it, and it has groups of its own
]


@pytest.mark.parametrize(("norm", "recipe"), KILLED)
def test_killed_again_and_again_a_training_ends_as_one_that_was_not(registry, tmp_path, saving, norm, recipe):
    """Killed in the first step, within epochs, at their ends and at the last step: scores, series and weights agree."""
    trial = trial_of(norm, **RECIPES[recipe])
    whole = outcome_of(trial, registry)

    kill(trial, registry, tmp_path, saving, 1, 2, 5, 6, 7, whole.steps)
    resumed = outcome_of(trial, registry, tmp_path)

    assert measured(whole) == measured(resumed)
    assert whole.steps == saving.saved[-1] == len(saving.saved)


@pytest.mark.parametrize("keeps", KEPT)
def test_what_a_layer_changes_in_its_steps_comes_back(registry, tmp_path, saving, keeps):
    """Frozen weights, flags of its modules, numbers, and tensors in lists; what other things refer to, still does."""
    trial = trial_of(f"keeps-{keeps}", momentum=0.9, weight_decay=0.01)
    whole = outcome_of(trial, registry)

    kill(trial, registry, tmp_path, saving, 1, 3, 4, 7, 11)
    resumed = outcome_of(trial, registry, tmp_path)

    assert measured(whole) == measured(resumed)
    assert list(range(1, 13)) == saving.saved


@pytest.mark.parametrize("keeps", LOST)
def test_what_can_not_come_back_is_not_saved(registry, tmp_path, saving, caplog, keeps):
    """Training goes on from the checkpoint before it changed, and it is said once, with the attribute's name."""
    trial = trial_of(f"keeps-{keeps.replace(' ', '-')}")
    whole = outcome_of(trial, registry)

    kill(trial, registry, tmp_path, saving, 8)
    kept = [path.name for path in (tmp_path / trial.key).iterdir()]
    resumed = outcome_of(trial, registry, tmp_path)

    assert ["5-0.pt"] == kept
    assert measured(whole) == measured(resumed)
    said = [record.getMessage() for record in caplog.records if "no checkpoint can be saved" in record.getMessage()]
    assert 2 == len(said)
    assert "changes in training, and is no number, text or tensor" in said[0]


@pytest.mark.parametrize("step", range(1, 13))
def test_after_a_kill_at_any_step_the_rest_is_trained_in_one_go(registry, tmp_path, saving, step):
    """One kill, and then the epochs that follow: each step is trained once."""
    trial = trial_of("drawing", momentum=0.9, schedule="cosine", dropout=0.3)
    whole = outcome_of(trial, registry)

    kill(trial, registry, tmp_path, saving, step)
    resumed = outcome_of(trial, registry, tmp_path)

    assert measured(whole) == measured(resumed)
    assert list(range(1, 13)) == saving.saved


def test_steps_after_the_checkpoint_are_trained_again(registry, tmp_path, saving):
    """Killed long after its last checkpoint, in a later epoch, a training goes on from there all the same."""
    trial = trial_of("online-norm", momentum=0.9)
    whole = outcome_of(trial, registry)
    saving.every = 5

    kill(trial, registry, tmp_path, saving, 9)
    resumed = outcome_of(trial, registry, tmp_path)

    assert measured(whole) == measured(resumed)
    assert [5, 10] == saving.saved


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("recipe", [{"momentum": 0.9}, {"optimizer": "adam", "precision": "bf16"}])
def test_on_a_gpu_its_generator_comes_back_too(registry, tmp_path, saving, recipe):
    """Killed on a GPU, a training with dropout goes on there to the same losses, but for rounding."""
    trial = trial_of("online-norm", rate=0.01, schedule="cosine", dropout=0.5, **recipe)
    whole = next(fit([trial], registry=registry, device="cuda"))

    saving.kill_after = (4,)
    with pytest.raises(Killed):
        next(fit([trial], registry=registry, device="cuda", checkpoint=str(tmp_path), checkpoint_every=0.0))
    saving.kill_after = ()
    resumed = next(fit([trial], registry=registry, device="cuda", checkpoint=str(tmp_path), checkpoint_every=0.0))

    assert whole.series["loss"] == pytest.approx(resumed.series["loss"], rel=1e-4)
    assert list(range(1, 13)) == saving.saved


@pytest.mark.parametrize("step", [2, 4, 6])
def test_a_divergence_is_found_at_its_step(registry, tmp_path, saving, step):
    """Losses of the epoch from before the kill count, those that are not finite too."""
    trial = trial_of("none", rate=1e30)
    whole = outcome_of(trial, registry)

    kill(trial, registry, tmp_path, saving, step)
    resumed = outcome_of(trial, registry, tmp_path)

    assert ("diverged", 2) == (resumed.outcome, whole.diverged_at)
    assert repr(measured(whole)) == repr(measured(resumed))


def test_a_probes_state_comes_back(registry, tmp_path, saving):
    """A probe with state_dict and load_state_dict goes on with what it had; without a kill it has the same."""
    trial, probes = trial_of(epochs=3), ("summing", "fingerprint")
    whole = outcome_of(trial, registry, probes=probes)

    kill(trial, registry, tmp_path, saving, 8, probes=probes)
    resumed = outcome_of(trial, registry, tmp_path, probes=probes)

    assert 3 == len(resumed.series["total"])
    assert measured(whole) == measured(resumed)


def test_one_checkpoint_is_kept(registry, tmp_path, saving):
    """The one before is deleted when the next is whole."""
    trial = trial_of()

    kill(trial, registry, tmp_path, saving, 5)

    assert [f"{trial.key}/5-0.pt"] == [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")]


def test_of_several_checkpoints_the_newest_counts(registry, tmp_path, saving):
    """Killed before it deleted the one before, training goes on from the one with more steps."""
    trial, folder = trial_of(), tmp_path / "kept"
    kill(trial, registry, tmp_path, saving, 9)
    shutil.copytree(tmp_path / trial.key, folder)
    kill(trial, registry, tmp_path, saving, 10)
    shutil.copytree(folder, tmp_path / trial.key, dirs_exist_ok=True)

    outcome_of(trial, registry, tmp_path)

    assert list(range(1, 13)) == saving.saved


def _changed(path, change):
    state = checkpoint._contents(path)
    change(state)
    checkpoint._write(path, state, path.with_suffix(".new"))


DAMAGES = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "empty": lambda path: path.write_bytes(b""),
    "not ours": lambda path: torch.save([1], path),
    "no state": lambda path: checkpoint._write(path, [1], path.with_suffix(".new")),
    "another trial's": lambda path: _changed(path, lambda state: state["identity"].update(trial="0" * 16)),
    "another torch's": lambda path: _changed(path, lambda state: state["identity"].update(torch="2.0.0")),
    "other parameters": lambda path: _changed(path, lambda state: state["network"]["parameters"].popitem()),
    "another optimizer": lambda path: _changed(path, lambda state: state["progress"].update(optimizer={"state": {}})),
    "no progress": lambda path: _changed(path, lambda state: state.pop("progress")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_good_is_as_if_it_were_not_there(registry, tmp_path, saving, damage):
    """Whatever is wrong with a checkpoint, the trial starts from the beginning, and the next checkpoint replaces it."""
    trial = trial_of("online-norm")
    whole = outcome_of(trial, registry)
    kill(trial, registry, tmp_path, saving, 7)
    DAMAGES[damage](tmp_path / trial.key / "7-0.pt")
    saving.saved.clear()

    again = outcome_of(trial, registry, tmp_path)

    assert measured(whole) == measured(again)
    assert list(range(1, 13)) == saving.saved
    assert ["12-0.pt"] == [path.name for path in (tmp_path / trial.key).iterdir()]


def test_bits_that_flipped_in_a_weight_are_noticed(registry, tmp_path, saving):
    """A file whose contents are not what was written is left out, although it could be read."""
    trial = trial_of(dropout=0.5)
    whole = outcome_of(trial, registry)
    kill(trial, registry, tmp_path, saving, 7)
    file = tmp_path / trial.key / "7-0.pt"
    weight = checkpoint._contents(file)["network"]["parameters"]["0.0.weight"].numpy().tobytes()
    file.write_bytes(file.read_bytes().replace(weight, bytes(len(weight))))

    again = outcome_of(trial, registry, tmp_path)

    assert measured(whole) == measured(again)


def test_with_other_probes_training_starts_anew(registry, tmp_path, saving):
    """A series has every epoch, also where its probe was asked for after the kill."""
    trial = trial_of()

    kill(trial, registry, tmp_path, saving, 7, probes=())
    found = outcome_of(trial, registry, tmp_path)

    assert [1.0, 2.0] == found.series["epoch"]


def test_on_a_full_disk_training_goes_on_without(registry, tmp_path, saving, monkeypatch, caplog):
    """What can't be written leaves no half file, the checkpoint before stays, and it is said once."""
    trial = trial_of()
    whole = outcome_of(trial, registry)
    kill(trial, registry, tmp_path, saving, 3)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    found = outcome_of(trial, registry, tmp_path)

    assert measured(whole) == measured(found)
    assert ["3-0.pt"] == [path.name for path in (tmp_path / trial.key).iterdir()]
    assert 1 == len([record for record in caplog.records if "No space left on device" in record.getMessage()])


def test_a_folder_that_cant_be_made_fails_no_trial(registry, tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "file").touch()

    found = outcome_of(trial_of(), registry, tmp_path / "file")

    assert 12 == found.steps


def test_a_checkpoint_is_saved_when_its_time_has_come(registry, tmp_path, saving, monkeypatch):
    """At ten seconds a step and a checkpoint every 25, one is saved after each third step."""
    clock = [0.0]

    class Slow(nn.Identity):
        def on_step(self, step, steps):
            clock[0] += 10

    registry.norms["slow"] = Offered(normbench.Norm("slow", lambda site: Slow(), summary="S"), Plugin("t", "t"))
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    list(fit([trial_of("slow")], registry=registry, checkpoint=str(tmp_path), checkpoint_every=25.0))

    assert [3, 6, 9, 12] == saving.saved


def test_seconds_go_on_from_the_checkpoint(registry, tmp_path, saving):
    """The outcome's seconds have those from before the kill; so does a later checkpoint."""
    trial = trial_of()
    kill(trial, registry, tmp_path, saving, 3)
    _changed(tmp_path / trial.key / "3-0.pt", lambda state: state.update(spent=1000.0))
    kill(trial, registry, tmp_path, saving, 5)

    found = outcome_of(trial, registry, tmp_path)

    assert 1000 < found.seconds < 2000


def test_a_process_killed_at_any_moment_loses_little(tmp_path):
    """After kill -9, at a step drawn from a seed, another process goes on to the bits of a training that was whole."""
    recipe = plugins.current().task("digits-cnn").recipe.changed(steps=100, momentum=0.9)
    trial = Trial(task="digits-cnn", task_version=1, norm="online-norm", recipe=recipe, seed=0)
    whole = next(fit([trial], probes=["moments"]))
    step = random.Random(7).randrange(2, 40)
    pack = Pack(trials=(trial,), checkpoint=str(tmp_path), checkpoint_every=0.0, probes=("moments",))
    code = "import sys, msgspec; from normbench.trials import Pack; from normbench.train import fit_pack; "
    code += "list(fit_pack(msgspec.json.decode(sys.argv[1], type=Pack)))"

    with zygote.Popen([sys.executable, "-c", code, msgspec.json.encode(pack).decode()]) as process:
        while process.poll() is None and not _newest(tmp_path / trial.key) >= step:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    reached = _newest(tmp_path / trial.key)
    resumed = next(fit_pack(pack))

    assert step <= reached < 100
    assert (whole.series, whole.score, whole.traces) == (resumed.series, resumed.score, resumed.traces)


def _newest(folder: Path) -> int:
    return max((int(path.stem.partition("-")[0]) for path in folder.glob("*.pt")), default=0)
