"""Norms of the tests' own."""

from normbench import Norm, Traits


def claiming(layer, wraps=False, **claims):
    """Return a norm of a module class that takes channels, or the linear that it wraps, with these traits."""
    made = (lambda site, module: layer(module)) if wraps else (lambda site: layer(site.channels))
    return Norm("mine", made, summary="Mine", placement="weight" if wraps else "before", traits=Traits(**claims))
