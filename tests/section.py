"""One section of the project's params.yaml with changes, parsed."""

import importlib
from dataclasses import asdict

from conftest import read_yaml

from stages.library import settings
from stages.library.common import params


def section(name, **changes):
    """Returns the section's `Params`; the other sections may be broken."""
    kind = importlib.import_module(settings.SECTIONS[name]).Params
    return params.parse(name, asdict(params.parse(name, read_yaml("params.yaml")[name], kind)) | changes, kind)
