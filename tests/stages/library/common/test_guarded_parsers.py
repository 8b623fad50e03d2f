"""Whether all of JSON, YAML, HDF5 and CSV that may come from others is read in one place: the code is walked."""

import ast

import pytest
from conftest import ROOT

# What parses JSON, YAML, HDF5 or CSV without the guarded readers, and why it may: the function's full name -> files.
PARSERS = {
    "json.loads": {
        "app/experiments.py": "what DVC printed, and what this module made; one line where it is no JSON",
        "app/exporting/usage.py": "model.json of the export that it is part of",
        "app/exporting/trees.py": "what XGBoost made in this process",
        "app/tuning.py": "what this module wrote as JSON; files of trials are read by the guarded reader",
        "stages/plugins/heads/xgboost/column_subsampling.py": "what XGBoost made in this process",
        "stages/library/networks/hub_weights.py": "what this module wrote as JSON",
        "stages/library/preparation/decoding_process.py": "an argument that decoding_workers gave",
        "stages/library/common/guarded_files.py": "the guarded reader",
    },
    "json.JSONDecoder": {"stages/library/sources/label_tables.py": "lines of a table, of bounded length and depth"},
    "ruamel.yaml.YAML": {
        "app/computed.py": "dvc.lock, which DVC has read before",
        "app/params_docs.py": "params.yaml and dvc.yaml of the code whose reference is written",
        "stages/library/common/guarded_yaml.py": "the guarded reader, which takes the parser's nodes",
    },
    "csv": {
        "stages/library/common/tables.py": "the guarded reader, and the only writer",
        "stages/library/sources/label_tables.py": "the first line of a table, of bounded length",
    },
    "h5py.File": {
        "stages/library/networks/hdf5.py": "the guarded reader, in a process of its own",
        "stages/library/networks/keras_files.py": "what the guarded reader has read before",
        "stages/library/networks/hub_weights.py": "what the guarded reader has read before",
    },
    "load_weights": {
        "stages/library/training/checkpoints.py": "what this process wrote",
        "stages/library/networks/keras_files.py": "what the guarded reader has read before",
        "stages/library/networks/weights.py": "the function of a backbone's module",
        "stages/library/networks/block_features.py": "the function of a backbone's module",
        "stages/library/networks/hub.py": "what the guarded reader has read before",
        **{
            path.relative_to(ROOT).as_posix(): "the function of a backbone's module, made by its family"
            for path in (ROOT / "stages" / "plugins" / "backbones").glob("[a-z]*.py")
            if "NETWORK.load_weights" in path.read_text(encoding="utf-8")
        },
    },
}
OTHERS = {"json.load", "yaml.load", "yaml.safe_load", "tomllib.load", "tomllib.loads"}
OTHERS |= {"pandas.read_csv", "to_csv"}


def parsers(text):
    """Returns which of these functions some code names, whatever name it has imported them by."""
    known = {*PARSERS, *OTHERS}
    names: dict[str, str] = {}
    found = set()
    nodes = list(ast.walk(ast.parse(text)))
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names |= {alias.asname or alias.name: module + alias.name for alias in node.names}
            found |= {module.rstrip("."), *(alias.name for alias in node.names if not module)}
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            found |= {f"{names.get(first, first)}{dot}{rest}", getattr(node, "attr", "")}
    return found & known


def test_files_are_parsed_by_the_guarded_readers_alone():
    found: dict[str, set[str]] = {}
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        for name in parsers(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    assert found == {name: set(files) for name, files in PARSERS.items()}


@pytest.mark.parametrize(
    "text",
    [
        "import json\njson.load(file)",
        "import json as j\nj.loads(text)",
        "from json import loads as read\nread(text)",
        "import ruamel.yaml\nruamel.yaml.YAML()",
        "from ruamel.yaml import YAML as Y\nY(typ='safe')",
        "from ruamel import yaml\nyaml.YAML()",
        "import yaml\nyaml.safe_load(text)",
        "import csv as c",
        "from csv import reader",
        "import pandas as pd\npd.read_csv(path)",
        "frame.to_csv(path)",
        "import h5py as h\nh.File(path)",
        "network.load_weights(path)",
        "list(map(json.loads, lines))",
    ],
)
def test_a_parser_is_found(text):
    assert len(parsers(text)) == 1
    assert not parsers("import json\njson.dumps(1)\ntables.read_csv(path)\nread_json(path)\ndef load_weights(): 1")
