"""What people start from the command line: each help fits a screen, has an example and comes at once."""

import argparse
import importlib
import sys

import pytest
from conftest import ROOT, read_yaml

from tests import processes

COLUMNS, LINES = 80, 24  # of a screen
OPTIONAL = {"keras_hub", "tensorflow_text", "kagglehub", "openvino", "nncf", "ray", "tf2onnx", "onnxruntime"}
STAGES_OF_DVC = read_yaml("dvc.yaml")["stages"]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))
BENCHMARKS = sorted(
    f"{folder}.{path.stem}"
    for folder in ("benchmarks", "checks")
    for path in (ROOT / folder).glob("*.py")
    if "parse_args()" in path.read_text()
)
PROGRAMS = sorted(path.stem for path in (ROOT / "app").glob("[a-z]*.py") if "console.run(main)" in path.read_text())


def test_all_programs_are_found():
    assert {"costs", "export", "predict", "pr_report", "store", "web"} < set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_fits_a_screen_has_an_example_and_starts_without_tensorflow(program):
    code = "import sys, runpy; sys.argv[1:] = ['--help']\n"
    code += f"try: runpy.run_module('app.{program}', run_name='__main__')\n"
    code += "except SystemExit: pass\n"
    code += "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    result = processes.run(sys.executable, "-c", code, COLUMNS=COLUMNS)
    *lines, last = result.stdout.splitlines()
    assert last == "False False"
    assert f"python -m app.{program}" in result.stdout
    assert "example" in result.stdout
    fits(lines)


def test_the_list_of_programs_has_each_with_what_it_does():
    lines = processes.run(sys.executable, "-m", "app").stdout.splitlines()
    found = dict(line.split(maxsplit=1) for line in lines[2:] if not line.startswith("   "))
    assert list(found) == PROGRAMS
    assert found["predict"].startswith("Names what is in images, by the best model")
    fits(lines)


@pytest.mark.parametrize(
    "program", [f"stages.{stage}" for stage in STAGES] + BENCHMARKS + [f"app.{each}" for each in PROGRAMS]
)
def test_each_option_has_help(program, monkeypatch):
    class Asked(BaseException):
        pass

    def parse(parser, *_):
        raise Asked(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(Asked) as caught:
        importlib.import_module(program).main()
    parsers = [caught.value.args[0]]
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            else:
                assert action.help, (parser.prog, action.option_strings or action.dest)


def test_the_default_pipeline_asks_for_no_optional_package():
    code = f"""
import importlib, sys
asked = set()
class Watch:
    def find_spec(self, name, path=None, target=None):
        asked.add(name)
sys.meta_path.insert(0, Watch())
for stage in {STAGES}:
    importlib.import_module(f"stages.{{stage}}")
from stages.library.networks import weights
weights.build_with_weights("efficientnet_lite0", 32, {{}})
print("keras" in asked, *sorted(asked & {OPTIONAL}))
"""
    assert processes.run(sys.executable, "-c", code).stdout.splitlines()[-1] == "True"


def fits(lines):
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS


def shown_help(module, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(module).main()
    return capsys.readouterr().out


@pytest.mark.parametrize("stage", STAGES)
def test_the_help_of_a_stage_fits_a_screen_and_has_an_example(stage, monkeypatch, capsys):
    text = shown_help(f"stages.{stage}", monkeypatch, capsys)
    lines = text.splitlines()
    assert lines[0] == f"usage: python -m stages.{stage} [options]"
    assert lines[-1].startswith("example: dvc repro ")
    assert f"python -m stages.{stage} " in STAGES_OF_DVC[lines[-1].split()[3]]["cmd"]
    fits(lines)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_help_of_a_benchmark_fits_a_screen(name, monkeypatch, capsys):
    lines = shown_help(name, monkeypatch, capsys).splitlines()
    assert f"python -m {name}".removesuffix(".__main__") in lines[0]
    fits(lines)
