"""What no check knows of streaming norm: its own gradient, what an update of the weights moves, and its limit."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import normbench

SHAPES = {"NC": (6, 4), "NCHW": (6, 4, 5, 3), "NLC": (6, 5, 4)}
#: How many batches come between one update of the weights and the next: none, too.
BATCHES = (1, 3, 1, 0, 2)


class Definition:
    """Values (m, C), the averages since the last update and the long-term ones, of (mean, scale) and their gradient."""

    def __init__(self, p, alpha, beta, own, kappa, eps):
        self.p, self.alpha, self.beta, self.own, self.kappa, self.eps = p, alpha, beta, own, kappa, eps
        self.since = {"statistics": [], "gradients": []}
        self.long_term = {"statistics": None, "gradients": None}

    def streamed(self, which, new, of_long, of_new):
        self.since[which].append(new)
        short = np.mean(self.since[which], axis=0)
        long_term = short if self.long_term[which] is None else self.long_term[which]
        return of_long * long_term + of_new * new + (1 - of_long - of_new) * short

    def step(self, x, gradient, gamma):
        """Return the output and the gradient of x."""
        batch_mean = x.mean(0)
        batch_scale = (np.abs(x - batch_mean) ** self.p).mean(0) ** (1 / self.p)
        mean, scale = self.streamed("statistics", np.stack([batch_mean, batch_scale]), self.alpha, 0)
        inner = gradient * gamma
        new = np.stack([-(inner / (scale + self.eps)).sum(0), -(inner * (x - mean)).sum(0) / (scale + self.eps) ** 2])
        of_mean, of_scale = self.streamed("gradients", new, self.beta, self.own)
        if self.p == 2:
            slope = (x - batch_mean) / batch_scale
        else:
            slope = np.sign(x - batch_mean) - np.sign(x - batch_mean).mean(0)
        dx = inner / (scale + self.eps) + (of_mean + of_scale * slope) / len(x)
        return gamma * (x - mean) / (scale + self.eps), dx

    def update(self):
        for which, since in self.since.items():
            if since:
                short, before = np.mean(since, axis=0), self.long_term[which]
                self.long_term[which] = short if before is None else before + self.kappa * (short - before)
                since.clear()


def build(layout="NCHW", **params):
    return normbench.layer("streaming-norm", channels=4, layout=layout, **params).double()


def resumed(layer, **params):
    """Return a fresh layer with the state of another."""
    fresh = build(**params)
    fresh.load_state_dict(layer.state_dict())
    return fresh


def drawn(seed, shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rows(x, layout):
    """Return values (m, C) as NumPy."""
    return (x if layout == "NLC" else x.movedim(1, -1)).reshape(-1, 4).detach().numpy()


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("shares", [{}, {"alpha": 0.7, "beta": 0.6, "own": 0.3}])
def test_a_training_is_that_of_the_equations(layout, p, shares):
    """Outputs, gradients and evaluations, resumed before each batch, with several batches for an update or one."""
    params = {"layout": layout, "p": p, "kappa": 0.2, "eps": 0.01, **shares}
    layer = build(**params)
    nn.init.uniform_(next(layer.parameters()), 0.5, 1.5, generator=torch.Generator().manual_seed(5))
    definition = Definition(**{"alpha": 0.5, "beta": 0.5, "own": 0.0} | {k: params[k] for k in params if k != "layout"})
    shape = SHAPES[layout]

    for step, batches in enumerate(BATCHES):
        for batch in range(batches):
            layer = resumed(layer, **params)
            x = ((2 + step) * drawn(10 * step + batch, shape) + batch - step).requires_grad_()
            gradient = drawn(100 + 10 * step + batch, shape)
            y = layer(x)
            y.backward(gradient)

            gamma = next(layer.parameters()).detach().numpy()
            expected, dx = definition.step(rows(x, layout), rows(gradient, layout), gamma)
            np.testing.assert_allclose(rows(y, layout), expected, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(rows(x.grad, layout), dx, rtol=1e-10, atol=1e-10)
        next(module for module in layer.modules() if hasattr(module, "after_step")).after_step(step, len(BATCHES))
        definition.update()

    mean, scale = definition.long_term["statistics"]
    x = drawn(7, shape)
    expected = gamma * (rows(x, layout) - mean) / (scale + 0.01)
    np.testing.assert_allclose(rows(layer.eval()(x), layout), expected, rtol=1e-10, atol=1e-10)


def test_without_averages_it_is_batch_norm():
    """All short-term, and the own gradient alone: up to where eps stands, output and gradient are batch norm's."""
    layer = build(alpha=0.0, beta=0.0, own=1.0, eps=1e-13)
    for step in range(2):
        x, gradient = drawn(step, SHAPES["NCHW"]).requires_grad_(), drawn(9, SHAPES["NCHW"])
        twin = x.detach().clone().requires_grad_()

        y, expected = layer(x), functional.batch_norm(twin, None, None, training=True, eps=1e-13)
        y.backward(gradient)
        expected.backward(gradient)
        layer.after_step(step, 2)

        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(x.grad, twin.grad)


def test_shares_above_one_are_refused():
    """In one line that names both."""
    with pytest.raises(ValueError, match=r"^beta is 0\.8 and own is 0\.3; they are shares of one mix, at most 1 "):
        build(beta=0.8, own=0.3)
