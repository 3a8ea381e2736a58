"""How a check ends: as it was declared, at the worst layout, and by what the layer raised."""

import dataclasses

import pytest
import torch
from torch import nn

import normbench
from normbench.registry import Offered, Plugin, Registry
from normbench.testing.kit import checks
from normbench.testing.run import Asked, run_check


class Types(nn.Module):
    """Gives another type than it is given, where there are positions."""

    def forward(self, x):
        return x.double() if x.dim() > 2 else x


class Raises(nn.Module):
    def forward(self, x):
        raise ArithmeticError("no\nway")


class Settings(nn.Module):
    def forward(self, x):
        torch.set_default_dtype(torch.float64)
        return x


NORM = normbench.Norm("mine", lambda site: nn.Identity(), summary="Nothing", layouts={"NC", "NCL"})


def checked(norm, check="builds", *, contract=None, layouts=()):
    registry = Registry(norms={norm.name: Offered(norm, Plugin("mine", "mine", contract=contract))})
    return run_check(checks("norm")[check], Asked(kind="norm", name=norm.name, layouts=layouts), registry)


def made(layer, **changes):
    return dataclasses.replace(NORM, layer=layer, params={}, **changes)


def test_the_worst_layout_counts():
    """And it is named."""
    result = checked(made(lambda site: Types()))

    assert ("failed", "NCL") == (result.status, result.where)
    assert "passed" == checked(made(lambda site: Types()), layouts=("NC",)).status


def test_what_a_layer_raises_is_a_failure_with_its_line():
    """One line, whatever the message is."""
    result = checked(made(lambda site: Raises()))

    assert "failed" == result.status
    assert result.said.startswith(r"raised ArithmeticError: no way (test_run.py:")


def test_a_norm_that_supports_nothing_fails():
    """Unsupported at every number of channels is a claim that does not hold; elsewhere a check does not apply."""

    def layer(site):
        raise normbench.Unsupported("not here")

    result = checked(made(layer))

    assert ("failed", "layouts without 'NC'") == (result.status, result.declare)
    assert "it supports none of 1, 3, 8, 64 channels, so that nothing can be checked" == result.said
    assert "not-applicable" == checked(made(layer), "copies").status


def test_an_expected_failure_has_the_authors_reason():
    """One that passes all the same is a failure: the declaration is out of date."""
    expected = {"builds": "it is meant"}

    assert ("expected", "it is meant") == (
        (result := checked(made(lambda site: Types(), expected=expected))).status,
        result.reason,
    )
    passed = checked(made(lambda site: nn.Identity(), expected=expected))
    assert ("failed", "it holds, and is declared as expected to fail") == (passed.status, passed.said)


def test_an_unknown_check_that_is_expected_is_refused():
    """With the nearest name."""
    with pytest.raises(normbench.UsageError, match="norm mine: expected: no check 'bulids'; did you mean 'builds'"):
        checked(made(lambda site: nn.Identity(), expected={"bulids": "it is meant"}))


def test_a_check_newer_than_the_plugins_contract_is_advice():
    """For one release."""
    result = checked(made(lambda site: Types()), contract=1)

    assert "advice" == result.status
    assert "the plugin is written for contract 1, this check came with 2: it will count with the next" == result.reason
    assert "failed" == checked(made(lambda site: Types()), contract=2).status


def test_what_a_layer_changes_reaches_no_other_check():
    """The process is as it was."""
    checked(made(lambda site: Settings()))

    assert torch.float32 == torch.get_default_dtype()
