"""Kinds of params.yaml that are none: each is one line, within bounds of memory and time."""

import resource
import subprocess
import sys
import time

import hostile_documents
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from stages.library.common.guarded_yaml import read_yaml
from stages.library.common.params import ParamsError
from stages.library.settings import load_params

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
KINDS = hostile_documents.yaml_texts(TEXT)
MOST_SECONDS, MOST_BYTES = 60, 3 << 30
PARAMS = "byte order mark", "cut by a byte"  # which are valid
DOCUMENTS = {kind: content for kind, content in hostile_documents.files(TEXT).items() if kind not in PARAMS}
DOCUMENTS |= {f"{kind} in YAML": text.encode() for kind, text in KINDS.items() if "bomb" not in kind}


def one_line(path):
    """Asserts that a file is rejected in one line that names it, quickly."""
    start = time.process_time()
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    assert len(message) < 4000
    assert not any(character < " " for character in message)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_each_kind_is_one_line(tmp_path, kind):
    (tmp_path / "params.yaml").write_bytes(DOCUMENTS[kind])
    one_line(tmp_path / "params.yaml")


def test_a_device_a_folder_and_nothing_are_one_line(tmp_path):
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("zero", "folder", "nowhere.yaml"):
        one_line(tmp_path / name)


def test_bombs_are_rejected_before_they_grow(tmp_path):
    bombs = [kind for kind in KINDS if "bomb" in kind]
    for kind in bombs:
        (tmp_path / f"{kind}.yaml").write_text(KINDS[kind], encoding="utf-8")
    code = """
import sys
from pathlib import Path
from stages.library.settings import load_params
from stages.library.common import params
for path in sorted(Path(sys.argv[1]).glob("*bomb.yaml")):
    try:
        load_params(path)
    except params.ParamsError as error:
        print(str(error).replace(str(path), path.name))
"""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, preexec_fn=limit
    )
    assert done.returncode == 0, done.stderr[-500:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(bombs) == 3
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


def test_the_place_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: 1\nb: {a: 1, a: 2}\n")
    with pytest.raises(ParamsError, match=r"params\.yaml: the key 'a' stands twice \(line 2, column 11\)\. Mend it$"):
        load_params(path)
