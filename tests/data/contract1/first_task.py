"""A task and its suite, as docs/plugins.md of the contract's first version has them."""

from pathlib import Path

import torch
from torch import nn

import normbench


class Images(torch.utils.data.Dataset):
    """Noise with a bright spot, whose quarter is the class."""

    def __init__(self, begin, end):
        self.begin, self.end = begin, end

    def __len__(self):
        return self.end - self.begin

    def __getitem__(self, i):
        drawn = torch.Generator().manual_seed(self.begin + i)
        image, quarter = 0.5 * torch.randn(1, 6, 6, generator=drawn), (self.begin + i) % 4
        row, column = divmod(quarter, 2)
        image[0, 3 * row + 1, 3 * column + 1] += 2
        return image, torch.tensor(quarter)


def data(folder, recipe):
    return normbench.Splits(Images(0, 96), Images(96, 136), Images(136, 176))


class Network(nn.Module):
    def __init__(self, place, recipe, width):
        super().__init__()
        self.first = place(nn.Conv2d(1, width, 3, padding=1), "relu")
        self.inner = place(nn.Conv2d(width, width, 3, padding=1), "relu")
        self.outer = place.sum(nn.Conv2d(width, width, 3, padding=1), activation="relu")
        self.last = place.norm(width, "NCHW", "tanh", spatial=(6, 6))
        self.dropout = nn.Dropout(recipe.dropout)
        self.hidden = place(nn.Linear(36 * width, 8), "relu")
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.first(x)
        x = self.last(self.outer(self.inner(x), x))
        return self.head(self.hidden(self.dropout(x.flatten(1))))


def network(place, recipe, width=4):
    return Network(place, recipe, width)


def loss(outputs, targets, smoothing=0.1):
    return nn.functional.cross_entropy(outputs, targets, label_smoothing=smoothing)


def score(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def augment(inputs, draws):
    return inputs * (0.5 + draws[:, 0]).view(-1, 1, 1, 1) + 0.2 * (draws[:, 1] - 0.5).view(-1, 1, 1, 1)


@normbench.hookimpl
def normbench_tasks():
    yield normbench.Task(
        "first-spots",
        1,
        summary="Where is the spot?",
        recipe=normbench.Recipe(rate=0.1, batch_size=16, epochs=2, momentum=0.9, weight_decay=0.001),
        chance=1.386,
        reference=0.1,
        data=data,
        network=network,
        loss=loss,
        score=score,
        augment=augment,
        augment_draws=2,
        measure="cross-entropy",
        unit="nats",
        direction="down",
        params={"width": 4, "smoothing": 0.1},
    )


@normbench.hookimpl
def normbench_suites():
    yield normbench.SuiteFile(Path(__file__).parent / "first.toml")
