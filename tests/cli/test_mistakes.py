"""Mistakes of users, some hundreds: each is one line on stderr that names what is wrong, and the documented status.

Here those that can be made with any command and option, with what is to be run, and in calls. Nothing is trained, and
torch is not imported: a mistake that needs it stands where it is made.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import normbench
from normbench.cli import commands, parser
from normbench.execute import Request

COMMANDS = {name: parser.command(name) for name in commands.COMMANDS}

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
    "report": ("report", "stored.json", "-o", "it.html"),
    "export": ("export", "stored.json", "-o", "it.json"),
    "merge": ("merge", "stored.json", "-o", "merged"),
    "show": ("show", "0123"),
    "list": ("list", "norms"),
    "plugins": ("plugins",),
    "new-plugin": ("new-plugin", "my-norm"),
    "completion": ("completion", "bash"),
    "check": ("check", "none"),
}


def derived():
    """Yield the mistakes that can be made with any command and any of its options."""
    for name in COMMANDS:
        yield f"{name}: typo", [name + "s"], f"'{name}s'"
    for name, command in COMMANDS.items():
        arguments = [param for param in command.params if not param.opts[0].startswith("-")]
        if any(param.required and param.name != "suite" for param in command.params):
            yield f"{name}: nothing", [name], "Missing"
        if all(param.nargs == 1 for param in arguments):
            yield f"{name}: too much", [*WHOLE[name], "surplus"], "surplus"
        for param in command.params:
            long = param.opts[-1] if param in arguments else next(opt for opt in param.opts if opt.startswith("--"))
            if param in arguments or param.hidden:
                continue
            yield f"{name} {long}: typo", [*WHOLE[name], f"{long}z"], f"{long}z"
            if param.is_flag:
                yield f"{name} {long}: value", [*WHOLE[name], f"{long}=1"], long
            else:
                yield f"{name} {long}: no value", [*WHOLE[name], long], long


def planned(*args: str) -> list[str]:
    return ["plan", "quick", *args]


def run(*args: str) -> list[str]:
    return ["run", "quick", *args]


#: A command's words; or what it asks for, where no command line is needed to see what is wrong with that.
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
    "suite to measure": (["throughput", "qick"], "no suite 'qick'; did you mean 'quick'?"),
    "suite to take": (["fingerprint", "qick"], "no suite 'qick'; did you mean 'quick'?"),
    "export to measure": (["throughput", "stored.json"], "stored.json: an exported file, which is not written to"),
    # norms
    "norm": (planned("--norm", "batchnrm"), "no norm 'batchnrm'; did you mean 'batchnorm'"),
    "norm far": (Request("quick", norms=["xyz"]), "no norm 'xyz'; known: batch-renorm"),
    "norm empty": (Request("quick", norms=[""]), "'' is not a name"),
    "norm blank": (Request("quick", norms=[" "]), "' ' is not a name"),
    "norm's case": (Request("quick", norms=["BatchNorm"]), "no norm 'BatchNorm'; did you mean 'batchnorm'"),
    "norms in one": (Request("quick", norms=["none,batchnorm"]), "no norm 'none,batchnorm'"),
    "norms by space": (Request("quick", norms=["none batchnorm"]), "'none batchnorm' is not a name"),
    "norm open": (Request("quick", norms=["batchnorm(eps"]), "'batchnorm(eps' is not a name"),
    "norm twice": (Request("quick", norms=["none", "none"]), "'none' twice"),
    "norm twice spelled": (
        Request("quick", norms=["batchnorm(eps=1)", "batchnorm(eps=1.0)"]),
        "'batchnorm(eps=1.0)' twice",
    ),
    "norm with a line": (Request("quick", norms=["a\nb"]), r"'a\nb' is not a name"),
    "norm with an escape": (planned("--norm", "\x1b[31m"), r"'\x1b[31m'"),
    "norm not UTF-8": (planned("--norm", "\udcff"), r"'\udcff'"),
    "parameter": (planned("--norm", "batchnorm(ep=1.0)"), "batchnorm: no parameter 'ep'; did you mean 'eps'"),
    "parameter of none": (Request("quick", norms=["none(eps=1.0)"]), "none: no parameter 'eps'"),
    "parameter's type": (Request("quick", norms=['batchnorm(eps="a")']), "eps is 'a'; it takes a number above 0"),
    "parameter a list": (Request("quick", norms=["batchnorm(eps=[1])"]), "eps is [1]; it takes a number above 0"),
    "parameter a bool": (Request("quick", norms=["batchnorm(eps=true)"]), "eps is True; it takes a number above 0"),
    "parameter infinite": (Request("quick", norms=["batchnorm(eps=inf)"]), "eps is inf; a number is finite"),
    "parameter no number": (Request("quick", norms=["batchnorm(eps=nan)"]), "eps is nan; it takes a number above 0"),
    "parameter no TOML": (Request("quick", norms=["batchnorm(eps=tiny)"]), "values as in TOML"),
    "parameter alone": (Request("quick", norms=["batchnorm(0.1)"]), "batchnorm(0.1)"),
    "parameter twice": (Request("quick", norms=["batchnorm(eps=1.0, eps=2.0)"]), "batchnorm(eps=1.0, eps=2.0)"),
    "parameter of several": (Request("quick", norms=["online-norm(alpha=0.9)"]), "no parameter 'alpha'"),
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
    "seed that is fresh": (planned("--seeds", "0,1000000"), "seeds has 1000000; seeds from 1000000 on are fresh ones"),
    "seed for seeds": (planned("--seeds", "20240131"), "the seed 20240131 alone is --seeds 20240131,"),
    "rate": (planned("--set", "rates=[0.1, -1]"), "rates[1] is -1.0; a rate is above 0"),
    "rate 0": (planned("--set", "rates=0"), "rates[0] is 0.0; a rate is above 0"),
    "rate a text": (planned("--set", 'rates=["0.1"]'), "rates[0]: expected float, got str"),
    "rate a bool": (planned("--set", "rates=[true]"), "rates[0]: expected float, got bool"),
    "rate no number": (planned("--set", "rates=[nan]"), "rates[0] is nan; a rate is above 0"),
    "rate infinite": (planned("--set", "rates=[inf]"), "rates[0] is inf"),
    "rate twice": (planned("--set", "rates=[1, 1]"), "rates names a rate twice"),
    "rates none": (planned("--set", "rates=[]"), "list the learning rates to try"),
    "rates a table": (planned("--set", "rates={ times = [1] }"), "no task 'times'"),
    "rates relative none": (planned("--set", "rates={ relative = [] }"), "rates.relative is empty"),
    "rates of another task": (planned("--set", "rates={ mnist-cnn = [1] }"), "no task 'mnist-cnn'"),
    "rate for rates": (
        planned("--set", "rate=1"),
        "--set rate: the rates are a grid, as in 'rates=[0.1, 1]'",
    ),
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
    "no length": (planned("--set", "epochs=0"), "epochs is 0 and steps is 0; one of the two says how long"),
    "two lengths": (
        planned("--set", "epochs=1", "--set", "steps=1"),
        "epochs stands under [fix] and steps under [fix]",
    ),
    "setting's word": (
        planned("--set", 'optimizer="lion"'),
        "optimizer is 'lion'; it is one of 'sgd', 'adam', 'adamw'",
    ),
    "precision": (planned("--set", "precision=16"), "precision is 16; it is one of 32, 'bf16'"),
    "momentum 1": (planned("--set", "momentum=1"), "momentum is 1"),
    "dropout 1": (planned("--set", "dropout=1.0"), "dropout is 1.0; it is at least 0 and below 1"),
    "decay no number": (planned("--set", "weight_decay=nan"), "weight_decay is nan; it is 0 or more"),
    "scale 0": (planned("--set", "init_scale=0"), "init_scale is 0"),
    "milestones without": (
        planned("--set", "milestones=[0.5]"),
        "milestones has no effect where schedule is constant",
    ),
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
    "spares without": (
        planned("--set", 'weight_decay_spares="norms-and-biases"'),
        "no effect where weight_decay is 0.0",
    ),
    "strategy without": (planned("--set", 'strategy="ddp"'), "strategy has no effect"),
    "batch uneven": (planned("--set", "devices=3"), "batch_size is 64, which 3 ranks don't divide evenly"),
    "sync uneven": (planned("--set", "devices=4", "--set", "sync_ranks=3"), "sync_ranks is 3, which does not divide"),
    "machines": (
        planned("--set", "num_nodes=2"),
        "num_nodes is 2: the executor processes trains on one machine; ray on several",
    ),
    # where, and how
    "device": (planned("--device", "gpu"), "device 'gpu': a device is auto, cpu, cuda or cuda:N"),
    "device empty": (planned("--device", ""), "device ''"),
    "device mps": (planned("--device", "mps"), "device 'mps'"),
    "device numbered": (planned("--device", "cpu:1"), "device 'cpu:1'"),
    "device's number": (planned("--device", "cuda:one"), "device 'cuda:one'"),
    "device to measure": (["throughput", "quick", "--device", "gpu"], "device 'gpu'"),
    "jobs": (planned("--jobs", "0"), "--jobs 0: it is auto, or a number of 1 or more"),
    "jobs below": (planned("--jobs", "-2"), "--jobs -2"),
    "jobs a word": (planned("--jobs", "two"), "--jobs two"),
    "jobs broken": (planned("-j", "1.5"), "--jobs 1.5"),
    "jobs in serial": (
        planned("--executor", "serial", "--jobs", "2"),
        "--jobs: the executor serial has no such option",
    ),
    "executor": (planned("--executor", "process"), "no executor 'process'; did you mean 'processes'"),
    "executor empty": (Request("quick", executor=""), "'' is not a name"),
    "executor's parameter": (Request("quick", executor="processes(job=1)"), "no parameter 'job'; did you mean 'jobs'"),
    "executor's type": (Request("quick", executor='processes(jobs="a")'), "jobs is 'a'; it takes an int"),
    "executor's form": (Request("quick", executor="processes(jobs"), "'processes(jobs' is not a name"),
    "timeout": (run("--timeout", "5 days"), "--timeout 5 days: a time is a number of seconds, or like"),
    "timeout 0": (run("--timeout", "0"), "--timeout 0"),
    "timeout below": (run("--timeout", "-5s"), "--timeout -5s"),
    "timeout infinite": (run("--timeout", "inf"), "--timeout inf"),
    "timeout in serial": (run("--executor", "serial", "--timeout", "5"), "--timeout: the executor serial has no such"),
    "per gpu": (run("--per-gpu", "0"), "--per-gpu"),
    "per gpu a word": (run("--per-gpu", "two"), "--per-gpu"),
    "address": (run("--address", "here:1"), "--address: the executor processes has no such option"),
    "checkpoints": (run("--checkpoint-every", "-1"), "--checkpoint-every"),
    "checkpoints a word": (run("--checkpoint-every", "often"), "--checkpoint-every"),
    "checkpoints no number": (run("--checkpoint-every", "nan"), "--checkpoint-every"),
    "seconds": (run("--seconds", "-1"), "--seconds"),
    "seconds a word": (run("--seconds", "long"), "--seconds"),
    "probe": (planned("--probe", "gradient"), "no probe 'gradient'; did you mean 'gradients'?"),
    "probe's parameter": (
        planned("--probe", "moments(evry=5)"),
        "--probe: moments: no parameter 'evry'; did you mean 'every'?",
    ),
    "probe's place": (planned("--probe", 'moments(at="top")'), "at is 'top'; it takes one of"),
    "probe twice": (
        planned("--probe", "moments", "--probe", "moments"),
        "--probe: probe 'moments' is asked for twice",
    ),
    "data": (run("--data-dir", "absent"), "--data-dir absent: there is no such folder"),
    "data a file": (run("--data-dir", "a-file"), "--data-dir a-file: there is no such folder"),
    "data to measure": (["throughput", "quick", "--data-dir", "absent"], "--data-dir absent"),
    "out a file": (planned("--out", "a-file"), "--out a-file: a file, which is not written to"),
    "out an export": (planned("--out", "stored.json"), "--out stored.json: a file, which is not written to"),
    "format": (run("--format", "xml"), "no format 'xml'; known: csv, github, json"),
    "format of a board": (["leaderboard", "stored.json", "--format", "jsn"], "no format 'jsn'; did you mean 'json'?"),
    "format of a comparison": ([*WHOLE["compare"], "--format", "junt"], "no format 'junt'; did you mean 'junit'"),
    "format of gates": (["calibrate", "stored.json", "--format", "xml"], "no format 'xml'"),
    "format to measure": (["throughput", "quick", "--format", "xml"], "no format 'xml'"),
    "format to take": (["fingerprint", "quick", "--format", "xml"], "no format 'xml'"),
    # of the command itself
    "nothing like it": (["xyz"], "no command 'xyz'; known: "),
    "option of none": (["--verson"], "No such option: --verson"),
    "option of another": (["leaderboard", "stored.json", "--seeds", "1"], "No such option: --seeds"),
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
    "seed that is fresh": ({"seeds": [1_000_000]}, "seeds has 1000000"),
    "base": ({"base": "absent"}, "base absent: no results there"),
    "base a number": ({"base": 1}, "base"),
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


TAKE_PLUGINS = [name for name, command in COMMANDS.items() if any("--plugin" in param.opts for param in command.params)]
TABLE = [*derived(), *((name, *mistake) for name, mistake in BY_HAND.items())]


@pytest.fixture(autouse=True, scope="module")
def alone(laid_out):
    """Lay out files, once for all mistakes: none of them changes anything."""
    laid_out(
        {
            "bytes.toml": b'name = "\xe9"',
            "other.toml": '[project]\nname = "other"',
            "folder.toml/a-file": "",
            "raises_of_the_tests.py": "\n\nraise RuntimeError('no luck')",
        }
    )


@pytest.mark.parametrize(("asked", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_mistake_is_one_line_and_exit_status_2(refusal, asked, words):
    """A mistake is named in one line on stderr, with what would be right, and nothing is printed."""
    assert words in refusal(asked)


@pytest.mark.parametrize("command", TAKE_PLUGINS)
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("raises_of_the_tests.py", "line 3: RuntimeError: no luck"),
        ("absent.py", "there is no such file"),
        ("folder", "is a folder"),
        ("a-file", "ImportError: a-file is no Python file"),
        ("stored.json", "ImportError: stored.json is no Python file"),
    ],
)
def test_every_command_refuses_a_plugins_file_that_fails(refusal, command, file, words):
    """A file asked for by name that fails is exit status 2, whatever the command."""
    said = refusal([*WHOLE[command], "--plugin", file])

    assert said.startswith(f"normbench: plugin {file}")
    assert words in said


@pytest.mark.parametrize(("arguments", "words"), API.values(), ids=API)
def test_a_mistake_in_a_call_is_a_usage_error(arguments, words):
    """`normbench.run` raises UsageError in one line, with the argument, before anything is made."""
    with pytest.raises(normbench.UsageError) as raised:
        normbench.run(**{"suite": "quick", **arguments})

    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_was_made():
    """No mistake left a folder of results, or anything else."""
    assert not Path("results/quick/trials.jsonl").exists()
    assert [] == [*Path().glob("it.*"), *Path().glob("merged*"), *Path().glob("normbench-*")]


def test_there_are_hundreds():
    """Each mistake of the table stands there once."""
    names = [row[0] for row in TABLE]

    assert len(names) > 300
    assert len(names) == len(set(names))
