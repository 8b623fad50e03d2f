""".ci/locks: whole, hashed, agreeing with requirements*.txt and each other; `make lock` as it runs, without network."""

import re
import shutil
import sys
import zipfile

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import processes

LOCKS = ROOT / ".ci" / "locks"
SOURCES = sorted(ROOT.glob("requirements*.txt"))


def requirements(path):
    """Returns name -> specifier of a requirements file and of those that it includes."""
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found |= requirements(path.parent / line.removeprefix("-r "))
        elif line:
            parsed = Requirement(line)
            found[canonicalize_name(parsed.name)] = str(parsed.specifier)
    return found


def entries(path):
    """Returns (requirement, its hashes) for each entry of a lock."""
    text = re.sub(r"^ *#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        found.append((Requirement(requirement), hashes))
    return found


def test_each_requirements_file_has_its_lock_and_no_lock_is_left_over():
    assert [path.name for path in sorted(LOCKS.iterdir())] == [path.name for path in SOURCES]
    assert len(SOURCES) > 5


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_lock_holds_what_its_source_names_each_in_one_version_with_hashes_and_no_place(source):
    locked = {}
    for requirement, hashes in entries(LOCKS / source.name):
        locked[canonicalize_name(requirement.name)] = str(requirement.specifier)
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert [each for each in hashes if not re.fullmatch(r"sha256:[0-9a-f]{64}", each)] == [], requirement
    asked = requirements(source)
    assert asked
    wrong = {name: locked.get(name) for name, specifier in asked.items() if locked.get(name) != specifier}
    assert wrong == {}, "make lock"
    assert names_a_place((LOCKS / source.name).read_text(encoding="utf-8")) == []


def test_no_two_locks_disagree():
    seen: dict[str, set[tuple[str, tuple[str, ...]]]] = {}
    for path in LOCKS.iterdir():
        for requirement, hashes in entries(path):
            seen.setdefault(requirement.name, set()).add((str(requirement.specifier), tuple(sorted(hashes))))
    assert {name: versions for name, versions in seen.items() if len(versions) > 1} == {}


def names_a_place(text):
    """Returns what stands in a lock of the machine or the registry that it was made with."""
    return re.findall(r"\w+://\S+|(?:^|[ =])/\S+|^--?\w.*| @ \S+", text, re.MULTILINE)


def test_a_place_would_be_found():
    lines = "--index-url https://a.example/simple", "a==1", "    # via -r /a/requirements.txt", "b @ file:///b.whl"
    assert len(names_a_place("\n".join(lines))) == 3


@pytest.mark.parametrize(
    ("target", "lock"),
    [("repro", "requirements.txt"), ("test", "requirements-dev.txt"), ("ci-repro", "requirements-s3.txt")],
)
def test_make_installs_from_the_locks(target, lock, tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(LOCKS, tmp_path / ".ci" / "locks")
    shown = processes.run("make", "--dry-run", target, "DVC_REMOTE_URL=s3://bucket", cwd=tmp_path).stdout
    installed = re.findall(r"^pip install .*", shown, re.MULTILINE)
    assert all("--require-hashes" in line for line in installed)
    assert installed[-1].endswith(f" -r .ci/locks/{lock}")


def wheel(folder, name, version, requires=()):
    """Writes a package that holds one module."""
    about = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")


@pytest.fixture
def project(tmp_path):
    """A project whose development pins what the others leave open, and the packages as files: there is no registry."""
    (tmp_path / "wheels").mkdir()
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "wheels", "child", version)
    wheel(tmp_path / "wheels", "parent", "1.0", ["child"])
    wheel(tmp_path / "wheels", "checker", "1.0", ["child<2"])
    project = tmp_path / "project"
    project.mkdir()
    (project / "requirements.txt").write_text("parent==1.0  # why\n")
    (project / "requirements-dev.txt").write_text("-r requirements.txt\nchecker==1.0\n")
    (project / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "lock", project / ".ci")
    return project


def lock(project, *options):
    places = {"UV_CACHE_DIR": project.parent / "cache", "UV_FIND_LINKS": project.parent / "wheels"}
    processes.run(project / ".ci" / "lock", *options, UV_NO_INDEX="1", **places)
    return {path.name: path.read_text(encoding="utf-8") for path in (project / ".ci" / "locks").iterdir()}


def install(project, target):
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", project.parent / "wheels"]
    options = ["--target", target, "--require-hashes", "-r", project / ".ci" / "locks" / "requirements.txt"]
    return processes.run(*command, *options, check=False)


def test_what_is_locked_is_what_is_installed_and_nothing_else_passes(project, tmp_path):
    locks = lock(project)
    assert locks.keys() == {"requirements.txt", "requirements-dev.txt"}
    for text in locks.values():
        assert "child==1.0 " in text  # the newest that development allows, for all
        assert names_a_place(text) == []
    assert lock(project) == locks
    done = install(project, tmp_path / "good")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "good" / "child.py").read_text() == "version = '1.0'\n"

    wheel(tmp_path / "wheels", "child", "1.0", ["checker"])  # another file under the same name
    done = install(project, tmp_path / "bad")
    assert done.returncode != 0
    assert "child" in done.stderr
    assert not (tmp_path / "bad" / "child.py").exists()


def test_a_lock_moves_only_when_told_to(project, tmp_path):
    before = lock(project)
    wheel(tmp_path / "wheels", "child", "1.1")
    assert lock(project) == before
    assert "child==1.1 " in lock(project, "--upgrade")["requirements.txt"]


@pytest.fixture
def make(tmp_path):
    """Runs make in a folder with a lock; `python` is a stand-in that notes what it is asked to do, and so is pip."""
    (tmp_path / ".ci" / "locks").mkdir(parents=True)
    (tmp_path / ".ci" / "locks" / "requirements.txt").touch()
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "bin").mkdir()

    def python(version, path):
        """A Python of a version: it runs what it gets, but says that it is that version, and makes no real .venv."""
        path.parent.mkdir(parents=True, exist_ok=True)
        major, minor = version.split(".")
        path.write_text(
            f"""#!/bin/sh
if [ "$1" = -m ]; then
    mkdir -p .venv/bin && cp "$0" .venv/bin/python
    printf '#!/bin/sh\\nexit 0\\n' > .venv/bin/pip && chmod +x .venv/bin/pip
    echo "made by {version}"
else
    exec {sys.executable} -c "import sys; sys.version_info = ({major}, {minor}, 0); sys.version = '{version}.0 x'; $2"
fi
""",
            encoding="utf-8",
        )
        path.chmod(0o755)

    def run(*words):
        path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
        return processes.run("make", ".venv/bin/.installed", *words, cwd=tmp_path, check=False, PATH=path)

    for version in ("3.10", "3.11", "3.13", "3.14"):
        python(version, tmp_path / "bin" / f"python{version}")
    python("3.13", tmp_path / "bin" / "python3")
    return run


def test_a_python_without_tensorflow_is_refused_in_one_line_that_says_which_has_it(make, tmp_path):
    for version in ("3.10", "3.14"):
        done = make(f"PYTHON=python{version}")
        assert done.returncode != 0
        line = rf"^error: Decant needs Python 3.11 to 3.13.*Received: {version}.0. Run: make PYTHON=python3.13$"
        assert re.search(line, done.stderr, re.MULTILINE)
    assert not (tmp_path / ".venv").exists()


def test_an_environment_is_made_anew_where_it_is_half_made_or_its_python_is_gone_or_another_one(make, tmp_path):
    assert "made by 3.13" in make().stdout
    assert "made by" not in make().stdout  # it is whole
    assert "made by 3.11" in make("PYTHON=python3.11").stdout
    assert "made by" not in make().stdout  # of another Python than python3, but nobody asks for that one
    (tmp_path / ".venv" / "bin" / ".installed").unlink()
    (tmp_path / ".venv" / "left over").touch()
    assert "made by 3.13" in make().stdout
    assert not (tmp_path / ".venv" / "left over").exists()
    (tmp_path / ".venv" / "bin" / "python").unlink()
    assert "made by 3.13" in make().stdout
    done = make("PYTHON=python3.14")  # and a whole one stays where the other is refused
    assert (done.returncode != 0, (tmp_path / ".venv" / "bin" / ".installed").exists()) == (True, True)
    (tmp_path / ".ci" / "locks" / "requirements.txt").touch()
    assert "made by" not in make().stdout  # another lock: what is there is brought up to date


def test_text_has_the_same_bytes_on_every_system():
    names = processes.run("git", "ls-files", "--eol").stdout.splitlines()
    assert {line.split()[0] for line in names} <= {"i/lf", "i/-text", "i/none"}
    assert {line.split("\t")[1].rpartition(".")[2] for line in names if line.startswith("i/-text")} == {"png"}
    shown = processes.run("git", "check-attr", "eol", "linguist-generated", "--", "dvc.lock", "stages/fetch.py").stdout
    assert shown.splitlines() == [
        "dvc.lock: eol: lf",
        "dvc.lock: linguist-generated: set",
        "stages/fetch.py: eol: lf",
        "stages/fetch.py: linguist-generated: unspecified",
    ]
