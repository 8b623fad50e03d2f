"""The hash of code, and what a file imports."""

import pytest

from stages.library.common import source_code

CODE = '''"""What it is for."""

from stages import one


class Kind:
    """A kind."""

    size = 1


async def wait():
    """Waits."""
    return "text"


def add(a, b=2):
    # why
    return a + b
'''
SAME = [
    CODE.replace("# why", "# because"),
    CODE.replace("What it is for", "What it was for"),
    CODE.replace('    """A kind."""\n', "").replace('    """Waits."""\n', ""),
    CODE.replace("a, b=2", "a,  b = 2").replace("a + b", "(a + b)") + "\n\n# the end\n",
    CODE.replace('"text"', "'text'"),
]
CHANGES = {
    "a + b": ["b + a"],
    "b=2": ["b=3"],
    "size = 1": ["size = 1.0", "size: int = 1", "'no docstring'; 'but code'"],
    '"text"': ['"other text"', 'b"text"', "None", "...", r"'\udce9'"],  # the last is no Unicode
    "import one": ["import two"],
    "async ": [""],
}
OTHER = ["", CODE + "half written (", *(CODE.replace(old, new) for old in CHANGES for new in CHANGES[old])]


def test_the_hash_changes_with_the_syntax_and_with_nothing_else(tmp_path):
    def sha256(code, name="a.py"):
        (tmp_path / name).write_text(code, encoding="utf-8")
        return source_code.sha256([tmp_path / name])

    assert {sha256(code) for code in [CODE, *SAME]} == {sha256(CODE)}
    assert len({sha256(code) for code in [CODE, *OTHER]}) == 1 + len(OTHER)
    assert sha256(CODE, "b.py") != sha256(CODE)
    both = [tmp_path / "a.py", tmp_path / "b.py"]
    assert source_code.sha256(both) == source_code.sha256(both[::-1]) != sha256(CODE)


def test_imports_are_followed_wherever_they_stand(tmp_path, monkeypatch):
    monkeypatch.setattr(source_code, "ROOT", tmp_path)
    modules = dict.fromkeys(("__init__", "q/__init__", "d", "h", "q/f", "q/i"), "") | {
        "a": "import os\nfrom p import b\ndef later():\n    import p.q.c\n",
        "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.d\nelse:\n    import p.e\n",
        "e": "from .q import f\nfrom . import g\n",
        "g": "import p.a\n",
        "q/c": "from ..h import anything",
    }
    paths = {name: tmp_path / "p" / f"{name}.py" for name in modules}
    (tmp_path / "p" / "q").mkdir(parents=True)
    for name, path in paths.items():
        path.write_text(modules[name], encoding="utf-8")

    def found(names, without=""):
        files = source_code.closure([paths[name] for name in names], [paths[name] for name in without])
        return {name for name in modules if paths[name] in files} - {"__init__", "q/__init__"}

    assert found("a") == {"a", "b", "e", "g", "h", "q/c", "q/f"}
    assert found("a", without="e") == {"a", "b", "h", "q/c"}
    assert found("dg", without="ad") == {"g"}


def test_a_modules_file_is_found_without_importing_it():
    assert source_code.file_of("stages.library.common.console").name == "console.py"
    with pytest.raises(ModuleNotFoundError, match=r"stages\.library\.nothing"):
        source_code.file_of("stages.library.nothing")
