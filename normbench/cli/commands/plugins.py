"""`normbench plugins`: which plugins were found, what each offers, and which failed."""

from __future__ import annotations

from normbench import plugins, registry
from normbench.cli import options, output
from normbench.cli.status import Status
from normbench.texts import as_json


def command(plugin: options.Plugins = None, json: output.JsonOption = False) -> Status:
    """List the plugins that were found, what each offers, and those that failed, with the reason.

    NORMBENCH_PLUGINS=a,b loads only these, NORMBENCH_STRICT_PLUGINS=1 makes a plugin that fails exit status 2.
    """
    registry = plugins.load(tuple(plugin or ()))
    if json:
        described = {
            "schema": 1,
            "plugins": [
                {name: getattr(one, name) for name in ("name", "origin", "version", "contract", "offers")}
                for one in registry.plugins
            ],
            "quarantined": [
                {name: getattr(bad, name) for name in ("name", "origin", "version", "error", "remedy")}
                for bad in registry.quarantined
            ],
        }
        output.put(as_json(described))
    else:
        lines = []
        for one in registry.plugins:
            contract = f", for contract {one.contract}" if one.contract else ""
            lines.append(f"{one.name}  {_source(one)}{contract}")
            lines += [f"    {kind}: {', '.join(names)}" for kind, names in one.offers.items()]
        for bad in registry.quarantined:
            lines += [f"{bad.name}  {_source(bad)} FAILED", f"    {bad.error}"]
            lines.append(f"    to be rid of it: {bad.remedy}")
        output.put_lines(lines or ["no plugins"])
    for note in registry.notes:
        output.say(f"normbench: {note}")
    return Status.MISTAKE if registry.quarantined and plugins.strict() else Status.DONE


def _source(one: registry.Plugin | registry.Quarantined) -> str:
    return f"{one.distribution} {one.version}" if one.distribution else one.origin
