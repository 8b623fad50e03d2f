"""app.train: what it writes into params.yaml and takes out again."""

import difflib
import os
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest
from conftest import ROOT, read_yaml
from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped]
from hypothesis import strategies as st
from ruamel.yaml import YAML

from app import train
from stages.library.common.console import UserError

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def lines_changed(text):
    """The lines of params.yaml that differ, as `git diff` shows them."""
    return [line for line in difflib.ndiff(TEXT.splitlines(), text.splitlines()) if line[0] in "+-"]


def leaves(content, prefix=""):
    for key, value in content.items():
        yield from leaves(value, f"{prefix}{key}.") if value and isinstance(value, dict) else [(prefix + key, value)]


def test_params_yaml_is_as_dvc_writes_it_so_that_one_setting_changes_its_own_lines_alone(tmp_path):
    path = tmp_path / "params.yaml"
    compared = 0
    for key, value in leaves(read_yaml("params.yaml")):
        if isinstance(value, dict):
            continue
        shutil.copy(ROOT / "params.yaml", path)
        apply_overrides(path, [f"{key}=[7]" if isinstance(value, list) else f"{key}=7"])
        changed = lines_changed(path.read_text(encoding="utf-8"))
        name = key.rpartition(".")[-1]
        if isinstance(value, list):
            assert {line[2:].split("#")[0].strip() for line in changed} <= {
                *(f"- {each}" if each != "*" else "- '*'" for each in value), "- 7", f"{name}: []", f"{name}:",
            }, key  # fmt: skip
        else:
            assert [line[2:].split("#")[0].split(":")[0].strip() for line in changed] == [name, name], key
            assert changed[0].partition("#")[2] == changed[1].partition("#")[2], key
        compared += 1
    assert compared > 80


NAMES = [
    "ünï",
    "it's mine",
    "x (v2)",
    "a, b",
    "x[1]",
    "key=1",
    "$HOME",
    "$(shell touch pwned)",
    'say "hi"',
    "a#b",
    "${x}",
    "-x",
]


@hypothesis.settings(max_examples=25)
@hypothesis.example("\x85")
@hypothesis.example("\u2028a")
@hypothesis.given(st.sampled_from(NAMES) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_folder_of_any_name_comes_back_and_changes_nothing_else(name):
    values = {"dataset.folder": name, "extract.input_size_px": None}
    written = train.changed(ROOT / "params.yaml", [], values).decode()
    expected = read_yaml("params.yaml")
    expected["dataset"]["folder"] = name
    expected["extract"]["input_size_px"] = None
    assert YAML(typ="safe", pure=True).load(written) == expected
    if name.isprintable():
        assert len(lines_changed(written)) in (2, 4)


def test_settings_are_read_as_dvc_reads_them():
    written = train.changed(ROOT / "params.yaml", ["ridge.penalties=[1,10]", "++extract.weights.xception=a.h5"], {})
    content = YAML(typ="safe").load(written)
    own = train.changed(ROOT / "params.yaml", ["extract.input_size_px=160"], {"extract.input_size_px": None})
    assert lines_changed(own.decode())[1].split()[:3] == ["+", "input_size_px:", "160"]
    assert content["ridge"]["penalties"] == [1, 10]
    assert content["extract"]["weights"] == {"xception": "a.h5"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["ridge.penalty=1"],
            r"-S must be KEY=VALUE with a key of params.yaml, and one value. Received: ridge.penalty=1",
        ),
        (["split.seed=1,2"], "and one value. Received: split.seed=1,2"),
        (["split.seed"], "Received: split.seed"),
        (["split.seed=-1"], r"`split.seed`.*Received: -1"),
    ],
)
def test_a_wrong_setting_is_one_line_and_written_nowhere(overrides, message, tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    with pytest.raises(UserError, match=message) as error, train.settings(path, tmp_path / "undo", overrides, {}):
        raise AssertionError
    assert "\n" not in str(error.value)
    assert path.read_text(encoding="utf-8") == TEXT


@pytest.mark.parametrize("error", [UserError("x"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("edit", ["", "seed: 8"])
def test_a_run_that_ends_early_leaves_nothing_in_params_yaml_but_what_others_wrote(error, edit, tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest needs its own
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)

    def run():
        with train.settings(path, tmp_path / "undo", ["split.seed=5"], {}):
            assert len(lines_changed(path.read_text(encoding="utf-8"))) == 2
            if edit:
                path.write_text(TEXT.replace("seed: 0", edit), encoding="utf-8")
            raise error

    with pytest.raises(type(error)):
        run()
    assert path.read_text(encoding="utf-8") == (TEXT.replace("seed: 0", edit) if edit else TEXT)
    assert not (tmp_path / "undo").exists()


KILLED = "a training was killed here"


@pytest.mark.parametrize(
    ("edit", "found", "said"),
    [
        (lambda before, after: after, TEXT, f"{KILLED}. PARAMS is as it was before it: give its settings again"),
        (lambda before, after: before, TEXT, ""),  # killed before it wrote, or put back by hand
        (lambda before, after: f"{after}#", None, f"{KILLED}, and PARAMS is another since. Look for its settings: git"),
    ],
)
def test_what_a_killed_run_left_is_taken_out_or_spoken_of_once(edit, found, said, tmp_path, capsys):
    path, undo = tmp_path / "params.yaml", tmp_path / "new" / "undo"
    path.write_text(TEXT, encoding="utf-8")
    with train.settings(path, undo, ["split.seed=5"], {}):
        left = undo.read_bytes()
        after = path.read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8") == after != TEXT
    undo.write_bytes(left)  # as a kill leaves it
    path.write_text(edit(TEXT, after), encoding="utf-8")
    train.restore(path, undo)
    assert path.read_text(encoding="utf-8") == (found or f"{after}#")
    assert said.replace("PARAMS", str(path)) in capsys.readouterr().out
    train.restore(path, undo)
    assert capsys.readouterr().out == ""


def test_a_damaged_note_of_a_killed_run_is_one_line(tmp_path):
    (tmp_path / "undo").write_bytes(b"\0\0\0")  # as a power cut may leave it
    with pytest.raises(UserError, match=r"undo is not JSON.*Delete it, and look at: git diff params\.yaml$"):
        train.restore(Path("params.yaml"), tmp_path / "undo")


def test_folders_are_found_from_home_and_missing_ones_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "labels.csv").touch()
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    folder = {"dataset.name": "folder", "dataset.folder": str(tmp_path / "pictures"), "extract.input_size_px": None}
    assert train.chosen("~/pictures", "") == folder
    assert train.chosen("../pictures", "") == folder
    table = {"dataset.name": "table", "dataset.table": str(tmp_path / "labels.csv")}
    assert train.chosen("~/pictures/", "../labels.csv") == folder | table
    assert train.chosen("", "") == {}
    for words, message in {
        ("~nobody-here/x", ""): rf"must be there. Received: {tmp_path}/checkout/~nobody-here/x",
        ("~/nosuch", ""): rf"PICTURES \(--folder\) must be there. Received: {tmp_path}/nosuch",
        (os.fsdecode(b"~/caf\xe9"), ""): r"PICTURES \(--folder\) must have a name in UTF-8.*Rename it: .*/caf",
        ("~/pictures", "no.csv"): r"LABELS \(--labels\) must be there",
        ("", "~/labels.csv"): "needs the folder of its images",
        (
            "/",
            "",
        ): rf"`dataset\.folder` must hold images, not {tmp_path}/checkout among them\. Received: /\. Give the folder",
    }.items():
        with pytest.raises(UserError, match=message):
            train.chosen(*words)


def lists():
    for section, value in read_yaml(ROOT / "params.yaml").items():
        for key, each in value.items() if isinstance(value, dict) else [(None, value)]:
            if isinstance(each, list):
                yield f"{section}.{key}" if key else section


@pytest.mark.parametrize("key", list(lists()))
def test_an_empty_list_spoils_no_other_key(tmp_path, key):
    """DVC's writer loses a line break where a comment stands behind the key of a list of lines."""
    path = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    apply_overrides(path, [f"{key}=[]"])
    section, _, name = key.partition(".")
    expected = read_yaml(ROOT / "params.yaml")
    expected |= {section: expected[section] | {name: []} if name else []}
    assert read_yaml(path) == expected
