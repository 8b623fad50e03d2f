"""Kinds of params.yaml that are none: each is one line, within bounds of memory and time."""

import sys
import time

import hostile_documents
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from stages.library.common.guarded_yaml import read_yaml
from stages.library.common.params import ParamsError
from stages.library.settings import load_params
from tests import processes

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
PARAMS = "byte order mark", "cut by a byte"  # which are valid
DOCUMENTS = {kind: content for kind, content in hostile_documents.files(TEXT).items() if kind not in PARAMS}
DOCUMENTS |= {f"{kind} in YAML": text.encode() for kind, text in hostile_documents.yaml_texts(TEXT).items()}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_each_kind_is_one_line_that_names_the_file(tmp_path, kind):
    path = tmp_path / "params.yaml"
    path.write_bytes(DOCUMENTS[kind])
    start = time.process_time()
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 4000
    assert message.isprintable()
    assert time.process_time() - start < 10


BOMBS = """
import resource, sys
from pathlib import Path
from stages.library.settings import load_params
from stages.library.common import params
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
    try:
        load_params(path)
    except params.ParamsError as error:
        print(str(error).replace(str(path), path.name))
"""


def test_bombs_are_rejected_before_they_grow(tmp_path):
    bombs = hostile_documents.yaml_bombs()
    for kind, text in bombs.items():
        (tmp_path / f"{kind}.yaml").write_text(text, encoding="utf-8")
    lines = processes.run(sys.executable, "-c", BOMBS, tmp_path).stdout.splitlines()
    assert len(lines) == len(bombs)
    assert all("with all aliases expanded (line " in line for line in lines)


def test_what_is_valid_is_read_as_dvc_reads_it(tmp_path):
    path = tmp_path / "params.yaml"
    values = "x: &x {a: [1, 2.5, 1e3, .5, 0x1F, 0o17, 1_000, ~, true, 'a', \"b\\n\"]}\n"
    aliases = values + "y: *x\nz: {<<: *x, b: c}\n"
    for text in (TEXT, TEXT.replace("\n", "\r\n"), values, aliases, "a:\n  - b: >\n      c\n      d\n"):
        path.write_text(text, encoding="utf-8", newline="")
        assert read_yaml(path) == YAML(typ="safe", pure=True).load(text)
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert load_params(path)["dataset"].name == "digits"
    path.write_text("a: 1\nb: {a: 1, a: 2}\n")
    with pytest.raises(ParamsError, match=r"params\.yaml: the key 'a' stands twice \(line 2, column 11\)\. Mend it$"):
        load_params(path)
