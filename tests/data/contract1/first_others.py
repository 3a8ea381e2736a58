"""A probe and an executor, as docs/plugins.md of the contract's first version has them."""

import time

import normbench
from normbench.records import Outcome, Pack


class Sharpest:
    def __init__(self, network):
        self.network, self.epochs = network, 0

    def on_epoch(self, epoch):
        self.epochs += 1
        largest = max(weight.detach().abs().max() for weight in self.network.parameters())
        return {"largest_weight": largest, "epochs_seen": float(self.epochs)}

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]


def run(packs, on_outcome, pause=0.0):
    from normbench.train import fit_pack

    for pack in packs:
        assert isinstance(pack, Pack)
        time.sleep(pause)
        for outcome in fit_pack(pack):
            assert isinstance(outcome, Outcome)
            on_outcome(outcome)


@normbench.hookimpl
def normbench_probes():
    return [normbench.Probe("first-sharpest", Sharpest, summary="Largest weight after each epoch")]


@normbench.hookimpl
def normbench_executors():
    return [normbench.Executor("first-in-turn", run, summary="One after another", in_process=True)]
