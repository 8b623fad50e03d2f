"""Names of classes, files and keys are other people's text: none of it steers a terminal."""

import ast
import json
import unicodedata

import pytest
import rich.console
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from app import predict, spinner
from app.predict import Prediction
from stages.library.common import console, tables
from stages.library.common.console import in_a_line
from stages.library.report import leaderboard

RED, TURN, CSI = "\x1b[31mred", "\u202egnp.exe", "\x9b2Jgone"
HOSTILE = [RED, TURN, CSI, "two\nlines", "\r\x1b[Kover", "bell\a", "\x7f", "\u2028", "\udcff"]
USAGE = ROOT / "app" / "exporting" / "usage.py"  # what goes out beside an exported file, and imports nothing of ours


def steering(text):
    """The characters of a text that steer, but the newlines at the ends of its lines; by Unicode's own tables."""
    return [c for c in text if c not in "\n\u200c\u200d" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@given(text=st.text(st.characters(codec=None)))
def test_a_line_stays_one_and_steers_nothing(text):
    line = in_a_line(text)
    assert steering(line) == []
    assert "\n" not in line
    assert len(line.splitlines()) <= 1


def test_say_prints_lines_on_either_stream_and_ordinary_text_of_all_scripts_as_it_is(capsys):
    joined = "\u6c34\U0001f408\u200d\u2b1b", "\u0645\u06cc\u200c\u062e"
    for name in ("猫", "кошка", "कुत्ता", "قطة", "a\\b", "± … │", *joined):
        assert in_a_line(name) == name
    console.say("one", RED, "two\nlines")
    console.say(TURN, err=True)
    assert capsys.readouterr() == ("one\n\\x1b[31mred\ntwo\\nlines\n", "\\u202egnp.exe\n")


def test_progress_and_spinners_show_names_escaped(monkeypatch):
    shown: list[str] = []
    monkeypatch.setattr(console, "tqdm", lambda *_, desc, **__: shown.append(desc))
    monkeypatch.setattr(rich.console.Console, "status", lambda self, what: shown.append(what.plain))
    console.progress([], RED, "files")
    spinner.spinner(f"{RED} [bold]")
    assert shown == [r"\x1b[31mred", r"\x1b[31mred [bold]"]


@pytest.mark.parametrize("output", predict.OUTPUTS)
def test_all_outputs_of_predict_are_escaped(output, capsys, tmp_path):
    found = [Prediction(name, ((f"={name}", 0.5), ("=1+1", 0.25))) for name in HOSTILE]
    found += [Prediction(name, error="not an image") for name in HOSTILE]
    predict.OUTPUTS[output](predict.counted(found, [0, 0]))
    out, err = capsys.readouterr()
    assert steering(out) == steering(err) == []
    assert len(err.splitlines()) == len(HOSTILE)
    if output == "json":
        assert [answer["file"] for answer in json.loads(out)] == HOSTILE * 2
    elif output == "csv":
        assert len(out.splitlines()) == 1 + 3 * len(HOSTILE)
        assert "'=1+1,,0.250000," in out
        (tmp_path / "predictions.csv").write_text(out, encoding="utf-8")
        rows = tables.read_csv(tmp_path / "predictions.csv")
        assert [(row["file"], row["class"]) for row in rows if row["rank"] == "1"] == [(n, f"={n}") for n in HOSTILE]
    else:
        assert len(out.splitlines()) == 3 * len(HOSTILE)


def test_markdown_that_people_print_has_no_control_codes_and_keeps_its_cells():
    cells = [*HOSTILE, "a | b", "<img src=x>", "<!--"]
    text = leaderboard.as_markdown(("model", "n"), [(cell, "1") for cell in cells])
    assert steering(text) == []
    lines = text.split("\n")
    assert len(lines) == len(cells) + 3
    assert all(line.replace(r"\|", "").count("|") == 3 for line in lines[:-1])
    assert "<" not in text


TEXTS = ast.JoinedStr, ast.Name, ast.Attribute
PRINTERS = {"print", "pprint", "warnings.warn", "traceback.print_exc", "argparse.ArgumentParser"}


def prints(node):
    """Tells whether a node of Python's syntax may print names, and not through `console`."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    if called in {"sys.exit", "exit", "SystemExit"}:
        return any(isinstance(part, TEXTS) for part in node.args)
    return called in PRINTERS or called.startswith(("sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer"))


def test_all_printing_goes_through_one_place():
    paths = [*(ROOT / "app").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]
    found = {path for path in paths if any(map(prints, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))}
    assert found == {ROOT / "stages" / "library" / "common" / "console.py", USAGE}


def test_what_lies_beside_an_exported_file_prints_names_escaped():
    tree = ast.parse(USAGE.read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "printable")
    scope: dict = {}
    exec(ast.unparse(function), scope)
    assert [steering(scope["printable"](name)) for name in HOSTILE] == [[]] * len(HOSTILE)
    assert scope["printable"]("猫 1") == "猫 1"
    printed = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"]
    assert all(ast.unparse(node).startswith("print(printable(path), ") for node in printed)
    assert "printable(LABELS[label])" in ast.unparse(tree)
