"""How a check ends: as it was declared, at the worst layout, and by what the layer raised."""

import dataclasses

import pytest
import torch
from torch import nn

import normbench


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


@pytest.fixture
def built(checked):
    """Return a function that returns the result of a check, `builds`, of a layer, at both layouts of its norm."""

    def check(layer, layouts=(), contract=None, check_id="builds", **changes):
        return checked(dataclasses.replace(NORM, layer=layer, params={}, **changes), check_id, layouts, contract)

    return check


def test_the_worst_layout_counts(built):
    """And it is named."""
    result = built(lambda site: Types())

    assert ("failed", "NCL") == (result.status, result.where)
    assert "passed" == built(lambda site: Types(), layouts=("NC",)).status


def test_what_a_layer_raises_is_a_failure_with_its_line(built):
    """One line, whatever the message is."""
    result = built(lambda site: Raises())

    assert "failed" == result.status
    assert result.said.startswith(r"raised ArithmeticError: no way (test_run.py:")


def test_a_norm_that_supports_nothing_fails(built):
    """Unsupported at every number of channels is a claim that does not hold; elsewhere a check does not apply."""

    def layer(site):
        raise normbench.Unsupported("not here")

    result = built(layer)

    assert ("failed", "layouts without 'NC'") == (result.status, result.declare)
    assert "it supports none of 1, 3, 8, 64 channels, so that nothing can be checked" == result.said
    assert "not-applicable" == built(layer, check_id="copies").status


def test_an_expected_failure_has_the_authors_reason(built):
    """One that passes all the same is a failure: the declaration is out of date."""
    expected = {"builds": "it is meant"}

    assert ("expected", "it is meant") == (
        (result := built(lambda site: Types(), expected=expected)).status,
        result.reason,
    )
    passed = built(lambda site: nn.Identity(), expected=expected)
    assert ("failed", "it holds, and is declared as expected to fail") == (passed.status, passed.said)


def test_an_unknown_check_that_is_expected_is_refused(built):
    """With the nearest name."""
    with pytest.raises(normbench.UsageError, match="norm mine: expected: no check 'bulids'; did you mean 'builds'"):
        built(lambda site: nn.Identity(), expected={"bulids": "it is meant"})


def test_a_check_newer_than_the_plugins_contract_is_advice(built):
    """For one release."""
    result = built(lambda site: Types(), contract=1)

    assert "advice" == result.status
    assert "the plugin is written for contract 1, this check came with 2: it will count with the next" == result.reason
    assert "failed" == built(lambda site: Types(), contract=2).status


def test_what_a_layer_changes_reaches_no_other_check(built):
    """The process is as it was."""
    built(lambda site: Settings())

    assert torch.float32 == torch.get_default_dtype()
