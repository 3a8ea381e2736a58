"""The Lightning Trainer that a trial runs under."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from normbench.train.module import Training


def train(module: Training, callbacks: Sequence[pl.Callback] = ()) -> None:
    """Train a module under a Lightning Trainer that keeps quiet, and lets Ctrl-C and signals be what they were.

    Lightning turns KeyboardInterrupt into SystemExit, and ignores Ctrl-C from then on; both are undone.
    """
    if not module.taken:
        module.network.train()  # as after each evaluation: a layer may have a mode of its own for some of its parts
    device = module.device
    with _quiet():
        # Lightning knows of one device alone: ranks train together by `train_together`, and end as their parent says.
        trainer = pl.Trainer(
            accelerator=device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            plugins=[LightningEnvironment()],
            max_epochs=module.epochs_left(),
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        if module.ranks.size > 1:
            module.train_together()
        with _own_signals():
            try:
                trainer.fit(module, train_dataloaders=module.batches)
            except SystemExit as stop:
                if isinstance(stop.__context__, KeyboardInterrupt):
                    raise KeyboardInterrupt from None
                raise
            if trainer.interrupted:
                raise KeyboardInterrupt


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put Ctrl-C's handler back as it was."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's device lines, advertisements and tips, and only them."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*|lightning\..*|lightning_fabric\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
