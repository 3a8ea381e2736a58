"""What a trial takes of a Ray cluster, and how many it has room for; without Ray."""

import pytest

from normbench.errors import UsageError
from normbench.recipe import Recipe
from normbench.trials import Pack, Trial
from normbench_plugins.ray_cluster.share import Share


def pack_of(device="cpu", **values):
    """Return a pack of a recipe with these values."""
    values = {"batch_size": 64, "epochs": 1, **values}
    return Pack(
        trials=(Trial(task="t", task_version=1, norm="n", recipe=Recipe(rate=0.1, **values), seed=1),),
        device=device,
    )


@pytest.mark.parametrize(
    ("pack", "per_gpu", "expected"),
    [
        (pack_of(), 1, {"CPU": 1}),
        (pack_of(threads=3), 2, {"CPU": 3}),
        (pack_of(devices=2, threads=2), 1, {"CPU": 4}),
        (pack_of("cuda"), 1, {"CPU": 1, "GPU": 1}),
        (pack_of("cuda"), 4, {"CPU": 1, "GPU": 0.25}),
        (pack_of("cuda", devices=2), 1, {"CPU": 2, "GPU": 2}),
        (pack_of("cuda", devices=2), 4, {"CPU": 2, "GPU": 2}),
    ],
)
def test_what_a_trial_takes(pack, per_gpu, expected):
    """A CPU for each thread; a part of a GPU only where one is enough."""
    assert expected == Share.of(pack, per_gpu).resources


@pytest.mark.parametrize("per_gpu", range(1, 33))
def test_so_many_trials_fit_on_a_gpu(per_gpu):
    """Ray rounds to ten-thousandths: six of 0.1667 would not fit."""
    gpus = Share.of(pack_of("cuda"), per_gpu).gpus

    assert per_gpu * round(gpus * 10_000) <= 10_000 < (per_gpu + 1) * round(gpus * 10_000)


def test_a_gpu_by_its_number_is_refused():
    """Which GPU it is, is Ray's to say."""
    with pytest.raises(UsageError, match=r"cuda:1.*: Ray gives each trial its GPU"):
        Share.of(pack_of("cuda:1"), 1)


@pytest.mark.parametrize(
    ("share", "nodes", "expected"),
    [
        (Share(1, 2, 0.0), [{"CPU": 8.0}, {"CPU": 3.0}, {}], 5),
        (Share(1, 1, 0.25), [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 1.0}], 6),
        (Share(2, 2, 0.0), [{"CPU": 8.0}, {"CPU": 3.0}, {"CPU": 2.0}], 1),
        (Share(1, 4, 0.0), [], 1),
    ],
)
def test_how_many_trials_a_cluster_has_room_for(share, nodes, expected):
    """What each node has, whole trials; one is always tried, since nodes may come."""
    assert expected == share.room(nodes)


def test_a_trial_of_more_threads_than_cores_takes_a_whole_node():
    """As it would without Ray."""
    assert Share(1, 4, 0.0) == Share(1, 16, 0.0).within([{}, {"CPU": 4.0}, {"CPU": 2.0}])
    assert Share(2, 2, 0.0) == Share(2, 16, 0.0).within([{}, {"CPU": 4.0}, {"CPU": 2.0}])


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (Share(1, 2, 2.0), "a trial takes 1 node with 2 GPUs and a CPU; the Ray cluster has none"),
        (Share(3, 1, 0.0), "a trial takes 3 nodes with a CPU each; the Ray cluster has 2"),
    ],
)
def test_what_no_node_has_is_refused(share, message):
    """Ray would wait for ever."""
    with pytest.raises(UsageError, match=message):
        share.within([{}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 2.0}])
