"""What people start from the command line: each help fits a screen, has an example and comes at once."""

import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAMS = sorted(path.stem for path in (ROOT / "app").glob("*.py") if "console.run(main)" in path.read_text())


def test_all_programs_are_found():
    assert {"costs", "export", "predict", "pr_report", "store", "web"} < set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_fits_a_screen_has_an_example_and_starts_without_tensorflow(program):
    code = "import sys, runpy; sys.argv[1:] = ['--help']\n"
    code += f"try: runpy.run_module('app.{program}', run_name='__main__')\n"
    code += "except SystemExit: pass\n"
    code += "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"COLUMNS": "80"}, capture_output=True, text=True, check=True
    )
    *lines, last = result.stdout.splitlines()
    assert last == "False False"
    assert f"python -m app.{program}" in result.stdout
    assert "example" in result.stdout
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
