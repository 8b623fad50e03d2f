"""app.conflicts: a merge's marks in any file that DVC or Decant reads are one line, and what else is there is none."""

import pytest

from app import conflicts
from stages.library.common.guarded_files import FileError

FILES = ["dvc.yaml", "params.yaml", "dvc.lock", "data/inputs.json", "data/weights.json", "metrics/scratch.json",
         "metrics/efficientnet_lite0/ridge.json", "metrics/efficientnet_lite0/fewshot/ridge/15.json"]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_looked_at_in_each_folder(tmp_path, name):
    for each in (*FILES, "metrics/notes.txt"):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_text("{}\n", encoding="utf-8")
    (tmp_path / "metrics" / "folder.json").mkdir()
    conflicts.reject(tmp_path)
    (tmp_path / name).write_text("<<<<<<< HEAD\n{}\n=======\n[]\n>>>>>>> other\n", encoding="utf-8")
    with pytest.raises(
        FileError, match=rf"{name} has the mark of a merge conflict in line 1.* Run: dvc repro$"
    ) as error:
        conflicts.reject(tmp_path)
    assert "\n" not in str(error.value)
