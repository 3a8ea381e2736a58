"""A run's stages: the grid, then fresh seeds at the rate that it chose; what ends them, and what a later run does."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter

import pretended
import pytest
from torch import nn

import normbench
from normbench import contract, plugins, prints
from normbench.api import Results
from normbench.boards import tables
from normbench.boards.grid import gather
from normbench.errors import UsageError
from normbench.execute import prepare, run
from normbench.execute.run import run_record
from normbench.store import Store
from normbench.store.merge import merge
from normbench.trials import Trial


def written(request, gave):
    """Store what trials of a request gave, without training: a score, an outcome, or None where nothing is stored.

    Call it again for the fresh seeds, whose rate follows from what the grid gave.
    """
    prepared = prepare(request)
    record = run_record(prepared)
    with prepared.store.writer() as writer:
        writer.append(record)
        for item in prepared.todo:
            given = gave(item.trial)
            if given is not None:
                writer.append(pretended.record_of(item.cell, item.trial, given, record.run))


def of(scores):
    """Return a function that looks up what a trial gives by norm, or for all, and rate; else by norm, rate and seed."""
    return lambda trial: scores.get((trial.norm, trial.recipe.rate, trial.seed), scores.get(trial.recipe.rate))


def fresh_of(request):
    """Return the fresh trials that are stored, by norm and rate: how many."""
    trials = Store(request.out).trials()
    return Counter((one.norm, one.recipe["rate"]) for one in trials if one.seed >= 1_000_000)


def shown(request):
    """Return the seeds by which each norm is reported, and whether they are those that chose."""
    [grid] = gather(Store(request.out))
    return {row.label: sorted(row.chosen()) for row in grid.rows}, grid.same_seeds


def test_run_trains_the_grid_and_then_fresh_seeds(request_for):
    """Each norm's come last, at its own choice, and are reported; running again trains nothing."""
    request, trained = request_for(), []

    summary = run(prepare(request), lambda progress: trained.append((progress.done, progress.total)))
    again = run(prepare(request))

    seeds = [trial.seed for trial in Store(request.out).trials()]
    assert [0] * 4 + [1] * 4 + [1_000_000] * 2 + [1_000_001] * 2 == seeds
    assert [(i, 12) for i in range(1, 13)] == trained
    assert (12, 0, 0, 12) == (summary.ran, summary.stored_before, again.ran, again.stored_before)
    assert ({"fine": [1_000_000, 1_000_001], "other": [1_000_000, 1_000_001]}, False) == shown(request)
    chosen = {row.values["rate"].number for row in tables(Store(request.out), ("accuracy",))[0].rows}
    assert chosen == {rate for _, rate in fresh_of(request)}


@pytest.mark.parametrize(
    "options", [{"fresh": False}, {"settings": {"rates": [0.1]}}], ids=["--no-fresh", "nothing is chosen"]
)
def test_run_without_fresh_seeds(request_for, options):
    """Asked for without, or at one rate, no seed is fresh; only the former flatters."""
    request = request_for(**options)

    run(prepare(request))

    assert ({}, ({"fine": [0, 1], "other": [0, 1]}, not options.get("fresh", True))) == (
        fresh_of(request),
        shown(request),
    )


def test_more_seeds_add_as_many_fresh_ones(request_for):
    """After three, five seeds add two of the grid and two fresh; a plan says so before."""
    for _ in range(2):
        written(request_for(seeds=3), of({0.1: 0.6, 1.0: 0.9}))
    prepared = prepare(request_for(seeds=5))
    left = prepared.left, prepared.planned, len(prepared.coming)
    written(request_for(seeds=5), of({0.1: 0.6, 1.0: 0.9}))

    todo = prepare(request_for(seeds=5)).todo

    assert (2 * (2 * 2 + 2), 2 * 15, 4) == left
    assert [1_000_003] * 2 + [1_000_004] * 2 == [item.trial.seed for item in todo]


def test_choice_that_changes(request_for):
    """With more seeds another rate is chosen: fresh seeds are trained there, and those at the old are not shown."""
    request = request_for(norms=["fine"], seeds=1)
    for _ in range(2):
        written(request, of({0.1: 0.9, 1.0: 0.6}))
    more = dataclasses.replace(request, seeds=2)
    written(more, lambda trial: {0.1: 0.1, 1.0: 1.0}[trial.recipe.rate] if trial.seed == 1 else None)
    total = []

    summary = run(prepare(more), lambda progress: total.append((progress.done, progress.total)))

    assert {("fine", 0.1): 1, ("fine", 1.0): 2} == fresh_of(request)
    assert ({"fine": [1_000_000, 1_000_001]}, False) == shown(more)
    assert [1.0] * 2 == [one.recipe["rate"] for one in Results(request.out).trials() if one.seed >= 1_000_000]
    assert (2, 4, [(5, 6), (6, 6)]) == (summary.ran, summary.stored_before, total)


def test_fewer_seeds_choose_as_the_board_does(request_for):
    """A later run of fewer seeds counts what those before gave, also where it would try that again if it were asked."""
    for _ in range(2):
        written(request_for(norms=["fine"]), of({("fine", 0.1, 1): "oom", 0.1: 0.9, 1.0: 0.6}))
    one = request_for(norms=["fine"], seeds=1, retry=True)

    left = prepare(one).left
    written(one, of({}))

    assert (0, {("fine", 1.0): 2}) == (left, fresh_of(one))
    assert ({"fine": [1_000_000, 1_000_001]}, False) == shown(one)


def test_choice_after_a_retry(request_for):
    """A rate at which a seed ran out of memory is not chosen; once it is trained, it may be."""
    scores = {("fine", 1.0, 1): "oom", 0.1: 0.2, 1.0: 0.3}
    asked = {"norms": ["fine"], "probes": []}
    for _ in range(2):
        written(request_for(**asked), of(scores))
    before = shown(request_for(**asked)), fresh_of(request_for(**asked))

    summary = run(prepare(request_for(**asked, retry=True)))

    assert (({"fine": [1_000_000, 1_000_001]}, False), {("fine", 0.1): 2}) == before
    assert ({("fine", 0.1): 2, ("fine", 1.0): 2}, 3) == (fresh_of(request_for(**asked)), summary.ran)
    assert ({"fine": [1_000_000, 1_000_001]}, False) == shown(request_for(**asked))


class _Late(nn.Module):
    """Raises at its third step, which no dry run finds, while a file is there."""

    def __init__(self, file):
        super().__init__()
        self.file, self.calls = file, 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 2 and self.file.exists():
            raise RuntimeError("boom")
        return x


def test_error_in_the_grid_does_not_go_on_for_ever(request_for, tmp_path):
    """It is tried once by each run; fresh seeds are at a rate that is whole, and stay where they are."""
    unlucky = tmp_path / "unlucky"
    unlucky.touch()
    plugins.register(normbench.Norm("flaky", lambda site: _Late(unlucky), summary="F"))
    request = request_for(norms=["flaky"], seeds=2)

    first = run(prepare(request), lambda _: unlucky.unlink(missing_ok=True))

    assert (6, 1) == (first.ran, len(first.failed))
    assert {("flaky", 1.0): 2} == fresh_of(request)
    assert ({"flaky": [1_000_000, 1_000_001]}, False) == shown(request)
    assert 1 == prepare(request).left


def test_norm_that_always_fails_has_no_fresh_seeds(request_for, tmp_path):
    """It ends, as the others' do; a plan counts its fresh seeds while it may still train."""
    plugins.register(normbench.Norm("bad", lambda site: _Late(tmp_path), summary="B"))
    request = request_for(norms=["bad", "fine"], seeds=1)
    total = []

    before = prepare(request).left
    summary = run(prepare(request), lambda progress: total.append((progress.done, progress.total)))

    assert (6, 5, 2) == (before, summary.ran, len(summary.failed))
    assert {"fine"} == {norm for norm, _ in fresh_of(request)}
    assert (5, 5) == total[-1]


@pytest.mark.parametrize("after", [2, 8, 10])
def test_interrupted_run_goes_on(request_for, after):
    """Whether in the grid, between the stages, or among fresh seeds: the next run does the rest, and no more."""
    request = request_for()

    def stop(progress):
        if progress.done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepare(request), stop)
    left = prepare(request).left

    assert (12 - after, 12 - after) == (left, run(prepare(request)).ran)
    assert ({"fine": [1_000_000, 1_000_001], "other": [1_000_000, 1_000_001]}, False) == shown(request)


def test_norm_without_a_code_print_ends(request_for):
    """It is trained anew by each run, in all its stages, and each run reports its own fresh seeds."""
    scope = {"nn": nn}
    exec("def layer(site):\n    return nn.Identity()", scope)
    plugins.register(normbench.Norm("unprinted", scope["layer"], summary="U"))
    request = request_for(norms=["unprinted"], seeds=1)

    ran = [run(prepare(request)).ran for _ in range(2)]

    assert [3, 3] == ran
    assert ({"unprinted": [1_000_000]}, False) == shown(request)


def test_executor_that_leaves_out_a_trial(request_for, monkeypatch):
    """Each trial is handed over once: the run ends, and the next one does the rest."""
    request = request_for(seeds=1)
    prepared = prepare(request)
    offered = prepared.registry.executors["serial"]
    whole = contract.function(offered.thing.run)

    def lossy(packs, on_outcome):
        whole((pack for i, pack in enumerate(packs) if i != 2), on_outcome)

    thing = dataclasses.replace(offered.thing, run=lossy)
    monkeypatch.setitem(prepared.registry.executors, "serial", dataclasses.replace(offered, thing=thing))

    assert (4, 2) == (run(prepared).ran, prepare(request).left)


def test_layer_that_was_edited_has_its_stages_again(request_for, tmp_path):
    """Neither grid nor fresh seeds of the old code count."""
    file = tmp_path / "edited_layer.py"
    text = "import normbench\nfrom torch import nn\n\n@normbench.hookimpl\ndef normbench_norms():\n"
    file.write_text(text + "    yield normbench.Norm('edited', lambda site: nn.Identity(), summary='E')\n")
    request = request_for(norms=["edited"], seeds=1, plugin_files=[file])
    run(prepare(request))
    file.write_text(text + "    yield normbench.Norm('edited', lambda site: nn.Tanh(), summary='E')\n")
    prints._hashed.cache_clear()
    plugins.current.cache_clear()

    prepared = prepare(request)
    left, [(cell, seed)] = prepared.left, prepared.coming
    run(prepared)

    assert (3, "edited", 1_000_000) == (left, cell.norm, seed)
    assert ({"edited": [1_000_000]}, False) == shown(request)


def test_settings_and_conditions_choose_each_for_themselves(request_for, tmp_path):
    """A cell's fresh seeds stand at its own setting and rate."""
    with (tmp_path / "tiny.toml").open("a") as suite:
        suite.write("[vary]\nbatch_size = [4, 8]\n[tune]\nweight_decay = [0, 0.5]\n")
    request = request_for(norms=["fine"], seeds=1)
    best = {4: (0.5, 0.1), 8: (0.0, 1.0)}

    def gave(trial: Trial):
        return 0.9 if best[trial.recipe.batch_size] == (trial.recipe.weight_decay, trial.recipe.rate) else 0.2

    written(request, gave)

    trials = [item.trial for item in prepare(request).todo]
    assert [(4, 0.5, 0.1, 1_000_000), (8, 0.0, 1.0, 1_000_000)] == [
        (one.recipe.batch_size, one.recipe.weight_decay, one.recipe.rate, one.seed) for one in trials
    ]


def test_probe_that_is_asked_for_later(request_for):
    """What lacks its series is trained again, in both stages."""
    request = request_for(norms=["fine"], seeds=1)
    run(prepare(request))
    probed = dataclasses.replace(request, probes=["gradients"])

    ran = [run(prepare(probed)).ran for _ in range(2)]

    assert [3, 0] == ran


def test_what_another_run_chose_meanwhile(request_for):
    """A plan that is older than what the folder holds counts the other run's seeds in its choice."""
    planned = prepare(request_for(norms=["fine"], seeds=1))
    written(
        request_for(norms=["fine"], seeds=2), of({("fine", 0.1, 0): 0.9, ("fine", 1.0, 0): 0.6, 0.1: 0.2, 1.0: 0.9})
    )

    summary = run(planned)

    assert (1, {("fine", 1.0): 1}) == (summary.ran, fresh_of(request_for()))


def test_other_results_of_the_folder_do_not_choose(request_for, tmp_path):
    """Neither those of another device, nor those at rates that this run does not try."""
    request = request_for(norms=["fine"], seeds=1)
    written(
        dataclasses.replace(request, settings={"rates": [0.1, 1, 10]}, seeds=2), of({10.0: 1.0, 1.0: 0.9, 0.1: 0.2})
    )
    trials = request.out / "trials.jsonl"
    other = [line.replace('"cpu"', '"cuda: other"') for line in trials.read_text().splitlines(keepends=True)]
    swapped = [re.sub(r'"(score|validation)":[\d.]+', r'"\1":0.99', line) for line in other if '"rate":0.1' in line]
    with trials.open("a") as file:
        file.writelines(swapped)

    assert {1.0} == {item.trial.recipe.rate for item in prepare(request).todo}


@pytest.mark.parametrize("form", ["all.json", "all.parquet", "merged"])
def test_exports_and_merges_hold_fresh_trials(request_for, tmp_path, form):
    """They give the same boards as the folder, and as many trials."""
    request = request_for()
    run(prepare(request))
    store = Store(request.out)
    if form == "merged":
        merge([store, Store(request.out)], tmp_path / form)
    else:
        if form.endswith("parquet"):
            pytest.importorskip("pyarrow")
        document = store.export(Results(request.out).trials(), "." + form.partition(".")[2])
        (tmp_path / form).write_bytes(document if isinstance(document, bytes) else document.encode())

    held = Results(tmp_path / form)

    assert 12 == len(held.trials())
    assert [str(board) for board in Results(request.out).boards()] == [str(board) for board in held.boards()]


def test_halves_of_the_seeds_that_are_merged(request_for, tmp_path):
    """Each half chose for itself; a run into the merged folder trains the fresh seeds at the choice of both."""
    scores = {("fine", 0.1, 0): 0.9, ("fine", 1.0, 0): 0.6, 0.1: 0.2, 1.0: 0.8}
    halves = [
        dataclasses.replace(request_for(norms=["fine"], seeds=[seed]), out=tmp_path / str(seed)) for seed in (0, 1)
    ]
    for half in halves * 2:
        written(half, of(scores))
    merge([Store(half.out) for half in halves], request_for().out)
    before = shown(request_for())

    summary = run(prepare(request_for(norms=["fine"], seeds=2)))

    assert ({"fine": [0, 1]}, True) == before
    assert (1, {("fine", 0.1): 1, ("fine", 1.0): 2}) == (summary.ran, fresh_of(request_for()))
    assert ({"fine": [1_000_000, 1_000_001]}, False) == shown(request_for())


@pytest.fixture
def base(request_for, tmp_path):
    """Return a folder whose grid chose the lower rate, with its fresh seeds."""
    request = dataclasses.replace(request_for(), out=tmp_path / "base")
    for _ in range(2):
        written(request, of({0.1: 0.9, 1.0: 0.6}))
    return request.out


@pytest.mark.parametrize("exported", [False, True])
def test_fresh_seeds_at_the_choice_of_base(request_for, base, exported, tmp_path):
    """HEAD's own grid would choose another rate: its fresh seeds are at BASE's all the same, and a note says so."""
    if exported:
        (tmp_path / "base.json").write_bytes(Store(base).export(Results(base).trials(), ".json"))
        base = tmp_path / "base.json"
    request = request_for(base=base)
    written(request, lambda trial: None if trial.seed >= 1_000_000 else {0.1: 0.6, 1.0: 0.9}[trial.recipe.rate])
    left = prepare(request).left

    ran = run(prepare(request)).ran, run(prepare(request)).ran

    [table] = tables(Store(request.out), ("accuracy",))
    assert (4, (4, 0)) == (left, ran)
    assert {("fine", 0.1): 2, ("other", 0.1): 2} == fresh_of(request)
    assert ({"fine": [1_000_000, 1_000_001], "other": [1_000_000, 1_000_001]}, False) == shown(request)
    assert [True] * 2 == ["would choose rate=1.0" in note for note in table.notes if "kept" in note]
    assert {1.0} == {item.trial.recipe.rate for item in prepare(request_for()).todo}


def test_base_where_nothing_is_chosen(request_for, base):
    """At one rate both sides stand there: it is no mistake, and no seed is fresh."""
    prepared = prepare(request_for(settings={"rates": [1]}, base=base))

    assert ([0, 0, 1, 1], []) == ([item.trial.seed for item in prepared.todo], prepared.coming)


def test_norm_that_base_lacks(request_for, base):
    """It chooses for itself, beside those whose rate is BASE's."""
    plugins.register(normbench.Norm("new", lambda site: nn.Identity(), summary="N"))
    request = request_for(norms=["fine", "new"], base=base)
    for _ in range(2):
        written(request, of({0.1: 0.6, 1.0: 0.9}))

    assert {("fine", 0.1): 2, ("new", 1.0): 2} == fresh_of(request)
    assert ({"fine": [1_000_000, 1_000_001], "new": [1_000_000, 1_000_001]}, False) == shown(request)


@pytest.mark.parametrize(
    ("of_base", "of_head", "message"),
    [
        ({"fresh": False}, {}, r"base .*base: it has no fresh seeds; train them there by running the suite again"),
        ({"norms": ["other"]}, {"norms": ["fine"]}, "it has no results of this suite's norms, tasks and conditions"),
        ({}, {"settings": {"rates": [1, 10]}}, "it chose rate=0.1 for 'fine' on tiny, which this run does not try"),
        ({}, {"fresh": False}, "it says where fresh seeds are trained, and this run has none; leave it out"),
    ],
    ids=["without fresh seeds", "nothing in common", "another grid", "without"],
)
def test_base_that_is_refused(request_for, tmp_path, of_base, of_head, message):
    """One line says what BASE lacks, and nothing is stored."""
    base = dataclasses.replace(request_for(**of_base), out=tmp_path / "base")
    for _ in range(2):
        written(base, of({0.1: 0.9, 1.0: 0.6}))

    with pytest.raises(UsageError, match=message):
        prepare(request_for(**of_head, base=base.out))

    assert not Store(request_for().out).exists()


@pytest.mark.parametrize("seed", range(8))
def test_fresh_seeds_stand_where_the_board_looks_for_them(request_for, seed):
    """Whatever runs came before, with failures, other seeds, rates and norms, and some cut short."""
    draw = random.Random(seed)
    for _ in range(6):
        request = request_for(
            norms=draw.choice([["fine"], ["fine", "other"], ["other"]]),
            seeds=draw.choice([1, 2, 3, [0, 2], [1]]),
            settings={"rates": draw.choice([[0.1, 1], [0.1, 1], [0.1, 1, 10]])},
            retry=draw.random() < 0.3,
        )
        cut = draw.random() < 0.3

        def gave(trial, cut=cut):
            return (
                None if cut and draw.random() < 0.4 else draw.choice(["oom", "error", "timeout", *[0.2, 0.4, 0.6] * 4])
            )

        pretended.store(prepare(request), gave)

        if not cut:
            assert all(item.stored and not item.stored.has_score for item in prepare(request).todo)
            rows = [row for grid in gather(Store(request.out)) for row in grid.rows if row.label in request.norms]
            assert all(row.fresh_at(row.rate, row.setting).keys() >= set(row.cell.fresh) for row in rows)
