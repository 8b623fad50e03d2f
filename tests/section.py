"""One section of the project's params.yaml with changes, parsed."""

import importlib
from dataclasses import asdict

from conftest import ROOT
from ruamel.yaml import YAML

from stages.library import settings
from stages.library.common import params


def section(name, **changes):
    """Returns the section's `Params`; the other sections may be broken."""
    content = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))[name]
    kind = importlib.import_module(settings.SECTIONS[name]).Params
    return params.parse(name, asdict(params.parse(name, content, kind)) | changes, kind)
