"""Mistakes of users, some hundreds: each is one line on stderr that names what is wrong, and the documented status.

Nothing is trained here, and torch is not imported: a mistake that needs it stands where it is made.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import typer

import normbench
from normbench import plugins
from normbench.cli import main
from normbench.recipe import CHOICES
from normbench.suites import RECIPE_VALUES

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = typer.main.get_command(main.app).commands

#: A command with all it requires, to which one mistake is added.
WHOLE = {
    "run": ("run", "quick"),
    "plan": ("plan", "quick"),
    "throughput": ("throughput", "quick"),
    "fingerprint": ("fingerprint", "quick"),
    "leaderboard": ("leaderboard", "stored.json"),
    "compare": ("compare", "stored.json", "stored.json"),
    "calibrate": ("calibrate", "stored.json"),
    "plot": ("plot", "stored.json", "-o", "it.png"),
    "export": ("export", "stored.json", "-o", "it.json"),
    "merge": ("merge", "stored.json", "-o", "merged"),
    "show": ("show", "0123"),
    "list": ("list", "norms"),
    "plugins": ("plugins",),
    "new-plugin": ("new-plugin", "my-norm"),
}


def derived():
    """Yield the mistakes that can be made with any command and any of its options."""
    for name in COMMANDS:
        yield f"{name}: typo", [name + "s"], f"'{name}s'"
    for name, command in COMMANDS.items():
        arguments = [param for param in command.params if not param.opts[0].startswith("-")]
        if any(param.required for param in command.params):
            yield f"{name}: nothing", [name], "Missing"
        if all(param.nargs == 1 for param in arguments):
            yield f"{name}: too much", [*WHOLE[name], "surplus"], "surplus"
        for param in command.params:
            long = param.opts[-1] if param in arguments else next(opt for opt in param.opts if opt.startswith("--"))
            if param in arguments:
                continue
            yield f"{name} {long}: typo", [*WHOLE[name], f"{long}z"], f"{long}z"
            if param.is_flag:
                yield f"{name} {long}: value", [*WHOLE[name], f"{long}=1"], long
            else:
                yield f"{name} {long}: no value", [*WHOLE[name], long], long


def recipe_values():
    """Yield for each value of a recipe a wrong type, and a wrong value, where a suite or the command line has it."""
    for name in sorted(RECIPE_VALUES):
        yield f"--set {name}: table", ["plan", "quick", "--set", f"{name}={{}}"], name
        yield f"--set {name}: no TOML", ["plan", "quick", "--set", f"{name}=so"], name
        wrong = '"so"' if name in CHOICES or name == "milestones" else "-1"
        yield f"--set {name}: range", ["plan", "quick", "--set", f"{name}={wrong}"], name
        yield f"--set {name}: typo", ["plan", "quick", "--set", f"{name}z=1"], f"{name}z"
        yield f"[fix] {name}", suite(f"[fix]\n{name} = {{}}"), name
        yield f"[vary] {name}: no list", suite(f"[vary]\n{name} = {wrong}"), f"[vary] {name}"
        yield f"[vary] {name}: range", suite(f"[vary]\n{name} = [{wrong}]"), name
        yield f"[tune] {name}: range", suite(f"[tune]\n{name} = [{wrong}]"), name


#: Suites that tests write, by the names of their files.
SUITES: dict[str, str] = {}
SUITE = {
    "name": '"mine"',
    "summary": '"A suite of the tests"',
    "tasks": '["digits-cnn"]',
    "norms": '["batchnorm"]',
    "rates": "[0.1]",
}


def suite(rest: str = "", **keys: str | None) -> list[str]:
    """Return how a suite is planned: of one task, norm and rate, with these keys instead, and more below."""
    lines = [f"{key} = {value}" for key, value in {**SUITE, **keys}.items() if value is not None]
    return written("\n".join([*lines, rest]))


def written(text: str) -> list[str]:
    file = f"suite-{len(SUITES)}.toml"
    SUITES[file] = text
    return ["plan", file]


def planned(*args: str) -> list[str]:
    return ["plan", "quick", *args]


def run(*args: str) -> list[str]:
    return ["run", "quick", *args]


def compared(*args: str) -> list[str]:
    return ["compare", "stored.json", "stored.json", *args]


PUBLISHED = '[published.digits-cnn]\nsource = "a"\nsetting = "b"\nscores = {scores}\n'
BY_HAND = {
    # what to run
    "suite": (["run", "qick"], "no suite 'qick'; did you mean 'quick'?"),
    "suite empty": (["plan", ""], "no suite ''"),
    "suite's case": (["plan", "QUICK"], "'QUICK'"),
    "suite absent": (["run", "absent.toml"], "absent.toml: there is no such file"),
    "suite below": (["plan", "folder/absent.toml"], "folder/absent.toml: there is no such file"),
    "suite a folder": (["run", "folder/"], "folder: can't be read"),
    "suite without ending": (["plan", "./a-file"], "a-file: not TOML"),
    "suite of bytes": (["plan", "bytes.toml"], "bytes.toml: can't be read as text"),
    "suite of another kind": (["plan", "other.toml"], "other.toml: no key 'project'"),
    "suite a store": (["plan", "folder.toml"], "folder.toml: can't be read"),
    "suite with a nul": (["plan", "a\0b.toml"], r"a\u0000b.toml"),
    "suite to measure": (["throughput", "qick"], "no suite 'qick'; did you mean 'quick'?"),
    "suite to take": (["fingerprint", "qick"], "no suite 'qick'; did you mean 'quick'?"),
    "export to measure": (["throughput", "stored.json"], "stored.json: an exported file, which is not written to"),
    # norms
    "norm": (planned("--norm", "batchnrm"), "no norm 'batchnrm'; did you mean 'batchnorm'"),
    "norm far": (planned("--norm", "xyz"), "no norm 'xyz'; known: batch-renorm"),
    "norm empty": (planned("--norm", ""), "'' is not a name"),
    "norm blank": (planned("--norm", " "), "' ' is not a name"),
    "norm's case": (planned("--norm", "BatchNorm"), "no norm 'BatchNorm'; did you mean 'batchnorm'"),
    "norms in one": (planned("--norm", "none,batchnorm"), "no norm 'none,batchnorm'"),
    "norms by space": (planned("--norm", "none batchnorm"), "'none batchnorm' is not a name"),
    "norm open": (planned("--norm", "batchnorm(eps"), "'batchnorm(eps' is not a name"),
    "norm twice": (planned("--norm", "none", "--norm", "none"), "'none' twice"),
    "norm twice spelled": (
        planned("--norm", "batchnorm(eps=1)", "--norm", "batchnorm(eps=1.0)"),
        "'batchnorm(eps=1.0)' twice",
    ),
    "norm with a line": (planned("--norm", "a\nb"), r"'a\nb' is not a name"),
    "norm with an escape": (planned("--norm", "\x1b[31m"), r"'\x1b[31m'"),
    "norm not UTF-8": (planned("--norm", "\udcff"), r"'\udcff'"),
    "parameter": (planned("--norm", "batchnorm(ep=1.0)"), "batchnorm: no parameter 'ep'; did you mean 'eps'"),
    "parameter of none": (planned("--norm", "none(eps=1.0)"), "none: no parameter 'eps'"),
    "parameter's type": (planned("--norm", 'batchnorm(eps="a")'), "eps is 'a'; it takes a float"),
    "parameter a list": (planned("--norm", "batchnorm(eps=[1])"), "eps is [1]; it takes a float"),
    "parameter a bool": (planned("--norm", "batchnorm(eps=true)"), "eps is True; it takes a float"),
    "parameter infinite": (planned("--norm", "batchnorm(eps=inf)"), "eps is inf; a number is finite"),
    "parameter no number": (planned("--norm", "batchnorm(eps=nan)"), "eps is nan; a number is finite"),
    "parameter no TOML": (planned("--norm", "batchnorm(eps=tiny)"), "values as in TOML"),
    "parameter alone": (planned("--norm", "batchnorm(0.1)"), "batchnorm(0.1)"),
    "parameter twice": (planned("--norm", "batchnorm(eps=1.0, eps=2.0)"), "batchnorm(eps=1.0, eps=2.0)"),
    "parameter of several": (planned("--norm", "online-norm(alpha=0.9)"), "no parameter 'alpha'"),
    # seeds and rates
    "seeds": (planned("--seeds", "many"), "--seeds 'many': give a number of seeds"),
    "seeds empty": (planned("--seeds", ""), "--seeds '': give a number"),
    "seeds none": (planned("--seeds", "0"), "seeds is 0; give a number from 1"),
    "seeds below": (planned("--seeds", "-3"), "seeds is -3"),
    "seeds broken": (planned("--seeds", "1.5"), "--seeds '1.5'"),
    "seeds a range": (planned("--seeds", "0-4"), "--seeds '0-4'"),
    "seed below": (planned("--seeds", "0,-1"), "seeds is [0, -1]; each seed is a whole number from 0"),
    "seed twice": (planned("--seeds", "1,1"), "seeds is [1, 1]; each seed is a whole number from 0, and stands once"),
    "seed between": (planned("--seeds", "1,,2"), "--seeds '1,,2'"),
    "seed for seeds": (planned("--seeds", "20240131"), "or --seeds 20240131,"),
    "rate": (planned("--set", "rates=[0.1, -1]"), "rates[1] is -1.0; a rate is above 0"),
    "rate 0": (planned("--set", "rates=0"), "rates[0] is 0; a rate is above 0"),
    "rate a text": (planned("--set", 'rates=["0.1"]'), "rates[0] is '0.1'"),
    "rate a bool": (planned("--set", "rates=[true]"), "rates[0] is True"),
    "rate no number": (planned("--set", "rates=[nan]"), "rates[0] is nan; a rate is above 0"),
    "rate infinite": (planned("--set", "rates=[inf]"), "rates[0] is inf"),
    "rate twice": (planned("--set", "rates=[1, 1]"), "rates names a rate twice"),
    "rates none": (planned("--set", "rates=[]"), "list the learning rates to try"),
    "rates a table": (planned("--set", "rates={ times = [1] }"), "no task 'times'"),
    "rates relative none": (planned("--set", "rates={ relative = [] }"), "rates.relative is empty"),
    "rates of another task": (planned("--set", "rates={ mnist-cnn = [1] }"), "no task 'mnist-cnn'"),
    "rate for rates": (planned("--set", "rate=1"), "use --set 'rates=[0.1, 1]'"),
    # settings
    "setting": (planned("--set", "epoch=2"), "--set: no recipe value 'epoch'; did you mean 'epochs'?"),
    "setting far": (planned("--set", "xyz=2"), "no recipe value 'xyz'"),
    "setting of the host": (planned("--set", "hold_out=true"), "no recipe value 'hold_out'"),
    "setting's form": (planned("--set", "epochs"), "--set 'epochs': write key=value"),
    "setting empty": (planned("--set", ""), "--set '': write key=value"),
    "setting without key": (planned("--set", "=2"), "no recipe value ''"),
    "setting without value": (planned("--set", "epochs="), "is no TOML value"),
    "setting's quotes": (planned("--set", "optimizer=adam"), "'adam' is no TOML value"),
    "setting's type": (planned("--set", 'epochs="2"'), "epochs: expected int, got str"),
    "setting broken": (planned("--set", "epochs=1.5"), "epochs: expected int, got float"),
    "setting a bool": (planned("--set", "epochs=true"), "epochs: expected int, got bool"),
    "setting huge": (planned("--set", "epochs=99999999999999999999"), "epochs"),
    "no length": (planned("--set", "epochs=0"), "epochs is 0 and steps is 0; one of the two says how long"),
    "two lengths": (planned("--set", "epochs=1", "--set", "steps=1"), "epochs stands under [fix] and steps under [fix]"),
    "setting's word": (planned("--set", 'optimizer="lion"'), "optimizer is 'lion'; it is one of 'sgd', 'adam', 'adamw'"),
    "precision": (planned("--set", "precision=16"), "precision is 16; it is one of 32, 'bf16'"),
    "momentum 1": (planned("--set", "momentum=1"), "momentum is 1"),
    "dropout 1": (planned("--set", "dropout=1.0"), "dropout is 1.0; it is at least 0 and below 1"),
    "decay no number": (planned("--set", "weight_decay=nan"), "weight_decay is nan; it is 0 or more"),
    "scale 0": (planned("--set", "init_scale=0"), "init_scale is 0"),
    "milestones without": (planned("--set", "milestones=[0.5]"), "milestones has no effect where schedule is constant"),
    "milestones none": (planned("--set", 'schedule="steps"', "--set", "milestones=[]"), "milestones is empty"),
    "milestones down": (
        planned("--set", 'schedule="steps"', "--set", "milestones=[0.7, 0.5]"),
        "milestones is [0.7, 0.5]",
    ),
    "milestones beyond": (planned("--set", 'schedule="steps"', "--set", "milestones=[1.5]"), "milestones is [1.5]"),
    "momentum of adam": (
        planned("--set", 'optimizer="adam"', "--set", "momentum=0.5"),
        "momentum has no effect where optimizer is adam",
    ),
    "spares without": (planned("--set", 'weight_decay_spares="norms-and-biases"'), "no effect where weight_decay is 0.0"),
    "strategy without": (planned("--set", 'strategy="ddp"'), "strategy has no effect"),
    "batch uneven": (planned("--set", "devices=3"), "batch_size is 64, which 3 ranks don't divide evenly"),
    "sync uneven": (planned("--set", "devices=4", "--set", "sync_ranks=3"), "sync_ranks is 3, which does not divide"),
    "machines": (
        planned("--set", "num_nodes=2"),
        "num_nodes is 2: --executor processes trains on one machine; ray on several",
    ),
    # a suite's file
    "key": (suite("seed = 3"), "no key 'seed'; did you mean 'seeds'"),
    "table": (suite("[fixed]"), "no key 'fixed'; did you mean 'fix'"),
    "nothing": (written(""), "missing required field"),
    "not TOML": (written('name = "'), "not TOML"),
    "twice a key": (suite(name='"mine"\nname = "yours"'), "not TOML"),
    **{f"without {key}": (suite(**{key: None}), key) for key in SUITE},
    **{f"{key} a number": (suite(**{key: "5"}), f"{key}: expected") for key in SUITE if key != "rates"},
    "rates a number": (suite(rates="5"), "rates: expected"),
    "rates a text": (suite(rates='"0.1"'), "rates: expected"),
    "rates of texts": (suite(rates='["0.1"]'), "rates"),
    "a rate of 0": (suite(rates="[0]"), "rates[0] is 0"),
    "rates by task, one missing": (
        suite(tasks='["digits-cnn", "mnist-cnn"]', rates="{ digits-cnn = [1] }"),
        "no grid for the task 'mnist-cnn'",
    ),
    "rates by task, a number": (suite(rates="{ digits-cnn = 1 }"), "rates.digits-cnn is 1; a grid is a list"),
    "rates relative to what": (suite(rates="{ digits-cnn = { times = [1] } }"), "no key 'times'"),
    "name with a slash": (suite(name='"a/b"'), "name is 'a/b'; it is letters, digits and hyphens"),
    "name of dots": (suite(name='".."'), "name is '..'"),
    "name empty": (suite(name='""'), "name is ''"),
    "tasks none": (suite(tasks="[]"), "tasks is empty; name at least one"),
    "task": (suite(tasks='["digits-cn"]'), "no task 'digits-cn'; did you mean 'digits-cnn'"),
    "task twice": (suite(tasks='["digits-cnn", "digits-cnn"]'), "'digits-cnn' twice"),
    "task's parameter": (suite(tasks='["digits-cnn(samples=1)"]'), "no parameter 'samples'"),
    "task a number": (suite(tasks="[5]"), "tasks[0]" if False else "tasks"),
    "norms none": (suite(norms="[]"), "norms is empty; name at least one"),
    "norm of a suite": (suite(norms='["layernorm"]'), "norms: no norm 'layernorm'; did you mean 'layer-norm'"),
    "norm a number": (suite(norms="[5]"), "norms"),
    "norm's table": (suite(norms="[{ eps = 1.0 }]"), 'a table of a norm has norm = "name"'),
    "norm's name a number": (suite(norms="[{ norm = 5 }]"), 'a table of a norm has norm = "name"'),
    "label a number": (suite(norms='[{ norm = "none", label = 5 }]'), "and perhaps a label"),
    "label twice": (
        suite(norms='[{ norm = "none", label = "a" }, { norm = "batchnorm", label = "a" }]'),
        "norms names 'a' twice",
    ),
    "norm under two labels": (suite(norms='["none", { norm = "none", label = "a" }]'), "'none' and 'a', which are the same"),
    "norm's parameter": (suite(norms='[{ norm = "batchnorm", ep = 1.0 }]'), "no parameter 'ep'; did you mean 'eps'"),
    "baseline": (suite('baseline = "batch-norm"'), "baseline: no norm 'batch-norm'; did you mean 'batchnorm'"),
    "baseline a number": (suite("baseline = 5"), "baseline: expected"),
    "baseline empty": (suite('baseline = ""'), "baseline: '' is not a name"),
    "protocol": (suite('protocol = "tune"'), "protocol"),
    "protocol with rates": (suite('protocol = "published"'), 'protocol is "published", which takes the recipe as it'),
    "seeds of a suite": (suite('seeds = "3"'), "seeds: expected"),
    "seeds a float": (suite("seeds = 1.5"), "seeds: expected"),
    "seeds of texts": (suite('seeds = ["a"]'), "seeds"),
    "seeds an empty list": (suite("seeds = []"), "seeds is []"),
    "seeds too many": (suite("seeds = 10001"), "seeds is 10001, the number of seeds, at most 10000"),
    "fix a number": (suite(fix="5"), "fix: expected"),
    "vary a number": (suite(vary="5"), "vary: expected"),
    "tune a text": (suite(tune='"a"'), "tune: expected"),
    "fix a typo": (suite("[fix]\nepoch = 2"), "[fix]: no recipe value 'epoch'; did you mean 'epochs'?"),
    "vary a typo": (suite("[vary]\nbatchsize = [2]"), "[vary]: no recipe value 'batchsize'; did you mean 'batch_size'"),
    "vary the rate": (suite("[vary]\nrate = [2]"), "[vary]: no recipe value 'rate'"),
    "vary nothing": (suite("[vary]\nepochs = []"), "[vary] epochs is empty; list the values to try"),
    "vary twice": (suite("[vary]\nepochs = [2, 2]"), "[vary] epochs lists 2 twice"),
    "in two tables": (suite("[fix]\nepochs = 2\n[vary]\nepochs = [2]"), "epochs stands under [fix] and under [vary]"),
    "lengths in two tables": (suite("[fix]\nsteps = 2\n[tune]\nepochs = [2]"), "epochs stands under [tune] and steps"),
    "a set value that varies": ([*suite("[vary]\nepochs = [2]"), "--set", "epochs=1"], "--set epochs: the suite 'mine' has it"),
    "gate": (suite('[gate]\nacuracy = "-0.5pt"'), "[gate]: no metric 'acuracy'; did you mean 'accuracy'"),
    "gate a number": (suite("[gate]\naccuracy = 5"), "gate"),
    "gate's table": (suite("gate = 5"), "gate: expected"),
    "published a number": (suite(published="5"), "published: expected"),
    "published's task": (suite(PUBLISHED.replace("digits", "digit").format(scores="{}")), "no task 'digit-cnn'; did you mean"),
    "published's norm": (suite(PUBLISHED.format(scores="{ none = 1 }")), "[published.digits-cnn]: no norm 'none'"),
    "published's key": (suite(PUBLISHED.format(scores="{}") + "year = 2"), "no key 'year'"),
    "published without": (suite("[published.digits-cnn]\nscores = {}"), "missing required field source"),
    "published's score": (suite(PUBLISHED.format(scores='{ batchnorm = "98%" }')), "expected float, got str"),
    # where, and how
    "device": (planned("--device", "gpu"), "--device 'gpu': a device is auto, cpu, cuda or cuda:N"),
    "device empty": (planned("--device", ""), "--device ''"),
    "device mps": (planned("--device", "mps"), "--device 'mps'"),
    "device numbered": (planned("--device", "cpu:1"), "--device 'cpu:1'"),
    "device's number": (planned("--device", "cuda:one"), "--device 'cuda:one'"),
    "device to measure": (["throughput", "quick", "--device", "gpu"], "--device 'gpu'"),
    "jobs": (planned("--jobs", "0"), "--jobs 0: it is auto, or a number of 1 or more"),
    "jobs below": (planned("--jobs", "-2"), "--jobs -2"),
    "jobs a word": (planned("--jobs", "two"), "--jobs two"),
    "jobs broken": (planned("-j", "1.5"), "--jobs 1.5"),
    "jobs in serial": (planned("--executor", "serial", "--jobs", "2"), "--jobs: the executor serial has no such option"),
    "executor": (planned("--executor", "process"), "no executor 'process'; did you mean 'processes'"),
    "executor empty": (planned("--executor", ""), "'' is not a name"),
    "executor's parameter": (planned("--executor", "processes(job=1)"), "no parameter 'job'; did you mean 'jobs'"),
    "executor's type": (planned("--executor", 'processes(jobs="a")'), "jobs is 'a'; it takes an int"),
    "executor's form": (planned("--executor", "processes(jobs"), "'processes(jobs' is not a name"),
    "timeout": (run("--timeout", "5 days"), "--timeout 5 days: a time is a number of seconds, or like"),
    "timeout 0": (run("--timeout", "0"), "--timeout 0"),
    "timeout below": (run("--timeout", "-5s"), "--timeout -5s"),
    "timeout infinite": (run("--timeout", "inf"), "--timeout inf"),
    "timeout in serial": (run("--executor", "serial", "--timeout", "5"), "--timeout: the executor serial has no such"),
    "per gpu": (run("--per-gpu", "0"), "--per-gpu"),
    "per gpu a word": (run("--per-gpu", "two"), "'two'"),
    "address": (run("--address", "here:1"), "--address: the executor processes has no such option"),
    "checkpoints": (run("--checkpoint-every", "-1"), "--checkpoint-every"),
    "checkpoints a word": (run("--checkpoint-every", "often"), "'often'"),
    "checkpoints no number": (run("--checkpoint-every", "nan"), "--checkpoint-every nan"),
    "seconds": (run("--seconds", "-1"), "--seconds"),
    "seconds a word": (run("--seconds", "long"), "'long'"),
    "probe": (planned("--probe", "weight-norms"), "no probe 'weight-norms'; did you mean 'weight-norm'?"),
    "data": (run("--data-dir", "absent"), "--data-dir absent: there is no such folder"),
    "data a file": (run("--data-dir", "a-file"), "--data-dir a-file: there is no such folder"),
    "data to measure": (["throughput", "quick", "--data-dir", "absent"], "--data-dir absent"),
    "out a file": (planned("--out", "a-file"), "--out a-file: a file, which is not written to"),
    "out an export": (planned("--out", "stored.json"), "--out stored.json: a file, which is not written to"),
    "format": (run("--format", "xml"), "no format 'xml'; known: csv, github, json"),
    "format of a board": (["leaderboard", "stored.json", "--format", "jsn"], "no format 'jsn'; did you mean 'json'?"),
    "format of a comparison": (compared("--format", "junt"), "no format 'junt'; did you mean 'junit'"),
    "format of gates": (["calibrate", "stored.json", "--format", "xml"], "no format 'xml'"),
    "format to measure": (["throughput", "quick", "--format", "xml"], "no format 'xml'"),
    "format to take": (["fingerprint", "quick", "--format", "xml"], "no format 'xml'"),
    # gates
    "until": (run("--until", "sure", "--max-seeds", "5"), "--until 'sure': say decided"),
    "until when": (run("--until", "decided"), "--until decided needs --max-seeds N"),
    "max seeds alone": (run("--max-seeds", "5"), "--max-seeds goes with --until decided"),
    "max seeds": (run("--until", "decided", "--max-seeds", "1"), "--max-seeds"),
    "until without a gate": (run("--until", "decided", "--max-seeds", "3"), "--until decided needs a gate"),
    "until with seeds": (run("--until", "decided", "--max-seeds", "3", "--seeds", "2"), "--seeds 2: with --until decided"),
    **{
        f"gate {text!r} of {command[0]}": ([*command, "--fail", text], words)
        for command in (["run", "quick"], ["compare", "stored.json", "stored.json"], ["calibrate", "stored.json"])
        for text, words in {
            "accuracy": "--fail 'accuracy': write METRIC:MARGIN",
            "acuracy:-1pt": "no metric 'acuracy'; did you mean 'accuracy'",
            "accuracy:1pt": "'1pt'; a margin is a sign, a number above 0 and a unit",
            "accuracy:-1": "'-1'",
            "accuracy:-1%": "'-1%'; its margin is like",
            "accuracy:+1pt": "'+1pt'; it gets worse as it falls: write -1pt",
            "accuracy:-0pt": "'-0pt'",
            "max_trainable_lr:-0.5step": "'-0.5step'; steps of the grid are whole",
            "throughput:-100%": "'-100%'; it can't fall by 100% or more",
        }.items()
        if (command[0], text) not in {("run", "accuracy:-1")}
    },
    "gate twice": (compared("--fail", "accuracy:-1pt", "--fail", "accuracy:-2pt"), "--fail names accuracy twice"),
    "gate too wide": (compared("--fail", "max_trainable_lr:-99step"), "max_trainable_lr:-99step"),
    "gate in decades": (compared("--fail", "max_trainable_lr:-2dec"), "max_trainable_lr:-2dec"),
    "gate on speed": (compared("--fail", "throughput:-1%"), "throughput:-1%") if False else (compared("--fail", "throughput:-0%"), "'-0%'"),
    "no gate": (["calibrate", "stored.json"], "no gate: --fail 'accuracy:-0.5pt'"),
    "repetitions": (["calibrate", "stored.json", "--fail", "accuracy:-1pt", "--repetitions", "5"], "--repetitions"),
    "repetitions a word": (["calibrate", "stored.json", "--repetitions", "many"], "'many'"),
    "seed of draws": (["calibrate", "stored.json", "--seed", "-1"], "--seed"),
    # results
    **{
        f"{command} of {name}": ([command, name, *more], words)
        for command, more in {
            "leaderboard": [],
            "calibrate": ["--fail", "accuracy:-1pt"],
            "plot": ["-o", "it.png"],
            "export": ["-o", "it.json"],
            "merge": ["-o", "merged"],
        }.items()
        for name, words in {
            "absent": "absent: no results there",
            "folder": "folder: no results there",
            "a-file": "a-file: not a file that normbench export wrote",
            "cut.json": "cut.json: not a file that normbench export wrote",
            "other.json": "other.json: not a file that normbench export wrote (it has no schema",
            "list.json": "list.json: not a file that normbench export wrote",
            "empty.json": "empty.json: not a file that normbench export wrote",
            "newer.json": "newer.json: written by a newer normbench",
            "parts.json": "parts.json: not a file that normbench export wrote (it lacks",
            "wrong.parquet": "wrong.parquet: not a file that normbench export wrote",
            "benchmarks.json": "benchmarks.json: not a file that normbench export wrote",
        }.items()
    },
    "results elsewhere": (["leaderboard", "quick"], "quick: no results there; did you mean results/quick?"),
    "board": (["leaderboard", "stored.json", "--board", "acuracy"], "no board 'acuracy'; did you mean 'accuracy'?"),
    "board without": (["leaderboard", "stored.json", "--board", "aggregate"], "nothing is stored there for the board aggregate"),
    "baseline of a board": (["leaderboard", "stored.json", "--baseline", "batchnrm"], "no norm 'batchnrm'; did you mean"),
    "sort": (["leaderboard", "stored.json", "--sort", "acuracy"], "no column 'acuracy'; did you mean 'accuracy'"),
    "sort by a column of another board": (
        ["leaderboard", "stored.json", "--board", "accuracy", "--sort", "ratio"],
        "no column 'ratio'",
    ),
    "where": (["leaderboard", "stored.json", "--where", "batch_size"], "--where 'batch_size': write key=value"),
    "where what": (["leaderboard", "stored.json", "--where", "batchsize=8"], "no recipe value 'batchsize'; did you mean"),
    "where no TOML": (["leaderboard", "stored.json", "--where", "batch_size=so"], "'so' is no TOML value"),
    "where none is": (["leaderboard", "stored.json", "--where", "batch_size=8"], "--where batch_size=8: no table has it; there"),
    "compare to nothing": (["compare", "stored.json", "absent"], "absent: no results there"),
    "compare to a file": (["compare", "stored.json", "a-file"], "a-file: not a file that normbench export wrote"),
    "compare a file": (["compare", "a-file", "stored.json"], "a-file: not a file that normbench export wrote"),
    "compare benchmarks to results": (["compare", "benchmarks.json", "stored.json"], "stored.json: not a file that pytest"),
    "compare results to benchmarks": (["compare", "stored.json", "benchmarks.json"], "benchmarks.json: not a file that"),
    "compare benchmarks cut": (["compare", "benchmarks.json", "cut-benchmarks.json"], "cut-benchmarks.json: not a file that"),
    "compare benchmarks by a gate": (
        ["compare", "benchmarks.json", "benchmarks.json", "--fail", "acuracy:+10%"],
        "acuracy",
    ),
    "compare benchmarks until": (
        ["compare", "benchmarks.json", "benchmarks.json", "--until", "decided", "--max-seeds", "5"],
        "benchmarks.json: files of benchmarks are only read",
    )
    if False
    else (["compare", "benchmarks.json", "benchmarks.json", "--fingerprint"], "benchmarks.json: files of benchmarks are only"),
    "compare until in a file": (
        compared("--until", "decided", "--max-seeds", "5", "--fail", "accuracy:-1pt"),
        "stored.json: a file, which is not written to",
    ),
    "output's ending": (compared("-o", "it.txt"), "-o it.txt: it ends in .md, .xml"),
    "output's folder": (compared("-o", "absent/it.md"), "-o absent/it.md: can't be written"),
    "picture's ending": (["plot", "stored.json", "-o", "it.pdf"], "-o it.pdf: a picture ends in .png or .svg"),
    "picture's folder": (["plot", "stored.json", "-o", "absent/it.png"], "there is no folder absent"),
    "export's ending": (["export", "stored.json", "-o", "it.jsn"], "-o it.jsn: an export ends in .json"),
    "export's folder": (["export", "stored.json", "-o", "absent/it.json"], "there is no folder absent"),
    "export without": (["export", "stored.json"], "Missing option '-o'"),
    "merge into something": (["merge", "stored.json", "-o", "strewn"], "-o strewn: there is something already"),
    "merge into a file": (["merge", "stored.json", "-o", "a-file"], "-o a-file: there is something already"),
    "trial": (["show", "0123", "--in", "stored.json"], "no trial '0123' in stored.json"),
    "trial anywhere": (["show", "0123"], "no trial '0123' in ."),
    "trial empty": (["show", "", "--in", "stored.json"], "'' begins the keys of"),
    "trial's folder": (["show", "0123", "--in", "folder"], "folder: no results there"),
    "kind": (["list", "norm"], "list: no kind 'norm'; did you mean 'norms'?"),
    "kind empty": (["list", ""], "list: no kind ''"),
    "package's name": (["new-plugin", "My_Norm"], "new-plugin 'My_Norm': a name is lower-case letters"),
    "package's dot": (["new-plugin", "my.norm"], "new-plugin 'my.norm'"),
    "package empty": (["new-plugin", ""], "new-plugin ''"),
    "package taken": (["new-plugin", "batchnorm"], "new-plugin 'batchnorm': plugin 'builtin' has a norm of that name"),
    "package below a file": (["new-plugin", "my-norm", "--in", "a-file"], "a-file/normbench-my-norm: can't be written"),
    "package there": (["new-plugin", "there", "--in", "strewn"], "strewn/normbench-there exists already"),
    # of the command itself
    "nothing like it": (["xyz"], "No such command 'xyz'"),
    "option of none": (["--verson"], "No such option: --verson"),
    "option of another": (["leaderboard", "stored.json", "--seeds", "1"], "No such option: --seeds"),
    "command as an option": (["--run", "quick"], "No such option: --run"),
}

HEAD = "import normbench\n\n"
HOOK = HEAD + "@normbench.hookimpl\ndef normbench_norms():\n    "
#: Plugins' files that fail, each with the line that is named, and what is said of it.
PLUGINS = {
    "raises": (HEAD + "raise RuntimeError('no luck')", 3, "RuntimeError: no luck"),
    "raises-lines": (HEAD + "raise RuntimeError('no\\nluck')", 3, "RuntimeError: no luck"),
    "raises-below": (HEAD + "def f():\n    1 / 0\n\nf()", 4, "ZeroDivisionError: division by zero"),
    "no-syntax": ("import normbench\n\ndef f(:", 3, "SyntaxError: invalid syntax"),
    "no-indent": ("import normbench\ndef f():\npass", 3, "IndentationError: "),
    "exits": ("import sys\nsys.exit(0)", 2, "SystemExit: 0"),
    "exits-in-hook": (HOOK + "raise SystemExit(3)", 5, "SystemExit: 3"),
    "lacks": ("import no_such_library", 1, "ModuleNotFoundError: No module named 'no_such_library'"),
    "raises-in-hook": (HOOK + "raise KeyError('a')", 5, "KeyError: 'a'"),
    "yields": (HOOK + "yield 'mine'", 3, "normbench_norms yielded 'mine'; it yields normbench.Norm objects"),
    "returns": (HOOK + "return 3", 3, "normbench_norms yielded 3; it yields normbench.Norm objects"),
    "returns-one": (HOOK + "return normbench.Norm('a', 'a:b', summary='c')", 3, "normbench_norms returned one Norm"),
    "misspells": (HOOK.replace("_norms", "_norm") + "yield", 3, "no hook 'normbench_norm'; did you mean 'normbench_norms'"),
    "unmarked": (HEAD + "def normbench_norms():\n    yield", 3, "normbench_norms is no hook without @normbench.hookimpl"),
    "argument": (HOOK.replace("norms()", "norms(a)") + "yield", None, "Argument(s) {'a'}"),
    "taken": (HOOK + "yield normbench.Norm('none', 'a:b', summary='c')", 3, "norm 'none' is registered by plugin 'builtin'"),
    "twice": (HOOK + "yield from [normbench.Norm('a', 'a:b', summary='c')] * 2", 3, "normbench_norms yielded 'a' twice"),
    "name": (HOOK + "yield normbench.Norm('A b', 'a:b', summary='c')", 5, "norm name 'A b': a name is lower-case"),
    "summary": (HOOK + "yield normbench.Norm('a', 'a:b', summary='')", 5, "summary is ''"),
    "layer": (HOOK + "yield normbench.Norm('a', 5, summary='c')", 5, "layer is 5; it is a function"),
    "parameter": (HOOK + "yield normbench.Norm('a', lambda site, x: 0, summary='c')", 5, "parameter 'x' has no default"),
    "option": (HOOK + "yield normbench.Norm('a', 'a:b', summary='c', layout='NC')", 5, "unexpected keyword argument 'layout'"),
    "layouts": (HOOK + "yield normbench.Norm('a', 'a:b', summary='c', layouts={'NHWC'})", 5, "'NHWC'"),
    "placement": (HOOK + "yield normbench.Norm('a', 'a:b', summary='c', placement='over')", 5, "'over'"),
    "nothing": ("x = 1", None, "it offers nothing"),
    "empty": ("", None, "it offers nothing"),
    "no-norms": (HOOK + "return []", None, "it offers nothing"),
    "nul": ("a\0b", None, "SyntaxError: "),
    "latin": (b"x = '\xe9'", 1, "SyntaxError: "),
    "with.dots": ("x = 1", None, "ImportError: "),
}

API = {
    "suite": ({"suite": 5}, "suite is 5; it takes str | Path"),
    "suite's name": ({"suite": "qick"}, "no suite 'qick'"),
    "norms": ({"norms": 5}, "norms is 5"),
    "norm": ({"norms": [None]}, "norms is [None]"),
    "norm's name": ({"norms": "batchnrm"}, "no norm 'batchnrm'"),
    "seeds": ({"seeds": "3"}, "seeds is '3'"),
    "seeds true": ({"seeds": True}, "seeds is True"),
    "seeds broken": ({"seeds": 1.5}, "seeds is 1.5"),
    "seed": ({"seeds": ["a"]}, "seeds is ['a']"),
    "seeds below": ({"seeds": -1}, "seeds is -1"),
    "settings": ({"settings": ["epochs=1"]}, "settings is ['epochs=1']"),
    "settings' key": ({"settings": {"epoch": 1}}, "no recipe value 'epoch'"),
    "settings' type": ({"settings": {"epochs": "x"}}, "epochs: expected int, got str"),
    "plugin": ({"plugin_files": 5}, "plugin_files is 5"),
    "plugin's file": ({"plugin_files": ["absent.py"]}, "absent.py: there is no such file"),
    "out": ({"out": 5}, "out is 5"),
    "out a file": ({"out": "a-file"}, "a-file: a file, which is not written to"),
    "data": ({"data_dir": 5}, "data_dir is 5"),
    "data's folder": ({"data_dir": "absent"}, "absent: there is no such folder"),
    "device": ({"device": None}, "device is None"),
    "device's name": ({"device": "gpu"}, "'gpu'"),
    "probes": ({"probes": [5]}, "probes is [5]"),
    "executor": ({"executor": 5}, "executor is 5"),
    "jobs": ({"jobs": "two"}, "jobs is 'two'"),
    "jobs 0": ({"jobs": 0}, "0: it is auto, or a number of 1 or more"),
    "per gpu": ({"per_gpu": "1"}, "per_gpu is '1'"),
    "timeout": ({"timeout": []}, "timeout is []"),
    "timeout below": ({"timeout": -1}, "-1: a time is a number of seconds"),
    "checkpoints": ({"checkpoint_every": "1"}, "checkpoint_every is '1'"),
    "address": ({"address": 5}, "address is 5"),
    "throughput": ({"throughput": "yes"}, "throughput is 'yes'"),
    "progress": ({"on_progress": 3}, "on_progress is 3"),
}

TABLE = [*derived(), *recipe_values(), *((name, *mistake) for name, mistake in BY_HAND.items())]


@pytest.fixture(autouse=True, scope="module")
def alone(tmp_path_factory):
    """Lay out files and folders, once for all mistakes: none of them changes anything."""
    folder = tmp_path_factory.mktemp("mistakes")
    stored = (ROOT / "results" / "mnist-lr.json").read_text(encoding="utf-8")
    benchmarks = (ROOT / "tests" / "data" / "pytest-benchmark-4.json").read_text(encoding="utf-8")
    files: dict[str, str | bytes] = {
        "stored.json": stored,
        "cut.json": stored[: len(stored) // 2],
        "newer.json": '{"schema": 99}',
        "other.json": '{"a": []}',
        "parts.json": '{"schema": 1, "runs": []}',
        "list.json": "[]",
        "empty.json": "",
        "wrong.parquet": "PAR1 and nothing else PAR1",
        "benchmarks.json": benchmarks,
        "cut-benchmarks.json": benchmarks[:-100],
        "a-file": "no results",
        "bytes.toml": b'name = "\xe9"',
        "other.toml": '[project]\nname = "other"',
        "strewn/normbench-there/a-file": "",
        "results/quick/runs.jsonl": "",
        **SUITES,
        **{f"{name}_of_the_tests.py" if name != "with.dots" else "with.dots.py": text for name, (text, *_) in PLUGINS.items()},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    for name in ("folder", "folder.toml"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NORMBENCH_PLUGINS", "NORMBENCH_STRICT_PLUGINS", "NORMBENCH_DATA", "GITHUB_ACTIONS"):
            patch.delenv(name, raising=False)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        patch.chdir(folder)
        plugins.current.cache_clear()
        yield
        plugins.current.cache_clear()


@pytest.fixture
def refusal(capsys):
    """Return a function that gives the one line that a command is refused by."""

    def refused(*args: str) -> str:
        found = main.status(list(args))
        out, err = capsys.readouterr()
        assert (2, "") == (found, out), err
        assert re.fullmatch(r"normbench: [^\n]+\n", err), err
        return err

    return refused


@pytest.mark.parametrize(("args", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_mistake_is_one_line_and_exit_status_2(refusal, args, words):
    """A mistake is named in one line on stderr, nothing is printed, and nothing is made."""
    assert words in refusal(*args)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugins_file_that_fails_is_named_with_its_line(refusal, name):
    """--plugin FILE.py that can't be loaded is a mistake, with the line of the file that it is about."""
    _, line, words = PLUGINS[name]
    file = f"{name}_of_the_tests.py" if name != "with.dots" else "with.dots.py"

    said = refusal("plan", "quick", "--plugin", file)

    assert said.startswith(f"normbench: --plugin {file}, line {line}: " if line else f"normbench: --plugin {file}: ")
    assert words in said


@pytest.mark.parametrize("command", [name for name in COMMANDS if "--plugin" in {opt for p in COMMANDS[name].params for opt in p.opts}])
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("raises_of_the_tests.py", "line 3: RuntimeError: no luck"),
        ("absent.py", "there is no such file"),
        ("folder", "is a folder"),
        ("a-file", "ImportError: "),
        ("stored.json", "ImportError: "),
    ],
)
def test_every_command_refuses_a_plugins_file_that_fails(refusal, command, file, words):
    """A file asked for by name that fails is exit status 2, whatever the command."""
    said = refusal(*WHOLE[command], *(["--fingerprint"] if command == "compare" else []), "--plugin", file)

    assert said.startswith(f"normbench: --plugin {file}")
    assert words in said


@pytest.mark.parametrize(("arguments", "words"), API.values(), ids=API)
def test_a_mistake_in_a_call_is_a_usage_error(arguments, words):
    """`normbench.run` raises UsageError in one line, with the argument, before anything is made."""
    with pytest.raises(normbench.UsageError) as raised:
        normbench.run(**{"suite": "quick", **arguments})

    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_was_made():
    """No mistake left a folder of results, or imported torch."""
    assert ["quick"] == [path.name for path in Path("results").iterdir()]
    assert [] == [*Path().glob("it.*"), *Path().glob("merged*"), *Path().glob("normbench-*")]


def test_there_are_hundreds():
    """The table has more than 300 mistakes by hand or by rule, each once."""
    names = [row[0] for row in TABLE]

    assert len(names) + len(PLUGINS) + len(API) > 600
    assert len(names) == len(set(names))
