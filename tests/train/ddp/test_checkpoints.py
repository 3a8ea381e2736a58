"""Checkpoints of a training on two gloo processes: each rank goes on with what is its own."""

from pathlib import Path

from normbench import plugins
from normbench.train import fit_pack
from normbench.train.ranks import parent
from normbench.trials import Pack, Trial


def measured(outcome):
    return outcome.outcome, outcome.series, outcome.score, outcome.validation, outcome.steps


def test_each_rank_goes_on_with_its_own_buffers(monkeypatch, tmp_path):
    """One of two ranks fails, and both go on from the checkpoint before, to the same losses and statistics."""
    monkeypatch.setattr(parent, "GRACE", 1.0)
    plugin = str(Path(__file__).with_name("checkpoint_plugin.py"))
    recipe = plugins.current().task("digits-cnn").recipe.changed(batch_size=256, epochs=3, momentum=0.9, devices=2)

    def trained(name, fails, **options):
        params = {"diary": str(tmp_path / name), "fails": fails}
        trial = Trial(task="digits-cnn", task_version=1, norm="failing-once", params=params, recipe=recipe, seed=0)
        [outcome] = fit_pack(Pack(trials=(trial,), probes=("buffers",), plugin_files=(plugin,), **options))
        return outcome

    whole = trained("whole", -1)
    failed, resumed = (
        trained("resumed", 5, checkpoint=str(tmp_path / "checkpoints"), checkpoint_every=0.0) for _ in range(2)
    )

    assert "error" == failed.outcome
    assert whole.series["0[0]"] != whole.series["1[0]"]
    assert measured(whole) == measured(resumed)
    steps = [int(step) for step in (tmp_path / "resumed").read_text().split()]
    assert [*range(6), *range(5, whole.steps)] == steps
    files = sorted(path.name for path in (tmp_path / "checkpoints").glob("*/*"))
    assert [f"{whole.steps}-0.pt", f"{whole.steps}-1.pt"] == files
