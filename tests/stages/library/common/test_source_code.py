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
OTHER = [
    CODE.replace("a + b", "b + a"),
    CODE.replace("b=2", "b=3"),
    CODE.replace("size = 1", "size = 1.0"),
    CODE.replace("size = 1", "size: int = 1"),
    CODE.replace('"text"', '"other text"'),
    CODE.replace('"text"', 'b"text"'),
    CODE.replace('"text"', "None"),
    CODE.replace('"text"', "..."),
    CODE.replace('"text"', r"'\udce9'"),  # which is no Unicode
    CODE.replace("import one", "import two"),
    CODE.replace("async ", ""),
    CODE.replace("size = 1", "'no docstring'; 'but code'"),
    CODE + "half written (",
    "",
]


def test_the_hash_changes_with_the_syntax_and_with_nothing_else(tmp_path):
    def sha256(code, name="a.py"):
        (tmp_path / name).write_text(code, encoding="utf-8")
        return source_code.sha256([tmp_path / name])

    assert {sha256(code) for code in [CODE, *SAME]} == {sha256(CODE)}
    assert len({sha256(code) for code in [CODE, *OTHER]}) == 1 + len(OTHER)
    assert sha256(CODE, "b.py") != sha256(CODE)
    both = [tmp_path / "a.py", tmp_path / "b.py"]
    assert source_code.sha256(both) == source_code.sha256(both[::-1]) != sha256(CODE)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes modules of a package `p` in a project of their own."""
    monkeypatch.setattr(source_code, "ROOT", tmp_path)

    def write(**modules):
        (tmp_path / "p" / "q").mkdir(parents=True)
        for name, code in {"__init__": "", "q.__init__": "", **modules}.items():
            (tmp_path / "p" / f"{name.replace('.', '/')}.py").write_text(code, encoding="utf-8")
        return tmp_path / "p"

    return write


def found(package, *names, without=()):
    named, left_out = ([package / f"{name}.py" for name in some] for some in (names, without))
    paths = source_code.closure(named, left_out)
    return {path.relative_to(package).as_posix().removesuffix(".py") for path in paths} - {"__init__", "q/__init__"}


def test_imports_are_followed_wherever_they_stand(package):
    folder = package(
        a="import os\nfrom p import b\ndef later():\n    import p.q.c\n",
        b="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.d\nelse:\n    import p.e\n",
        d="",
        e="from .q import f\nfrom . import g\n",
        g="import p.a\n",
        **{"q.c": "from ..h import anything", "q.f": "", "q.i": ""},
        h="",
    )
    assert found(folder, "a") == {"a", "b", "e", "g", "h", "q/c", "q/f"}
    assert found(folder, "a", without=["e"]) == {"a", "b", "h", "q/c"}
    assert found(folder, "d", "g", without=["a", "d"]) == {"g"}


def test_a_modules_file_is_found_without_importing_it():
    assert source_code.file_of("stages.library.common.console").name == "console.py"
    with pytest.raises(ModuleNotFoundError, match=r"stages\.library\.nothing"):
        source_code.file_of("stages.library.nothing")
