"""The pipeline in a real DVC repository: what runs again after which change, and that two runs give the same bytes."""

import shutil

import pytest
from checkout import HEADS, Project
from conftest import write_images

pytestmark = pytest.mark.slow

BACKBONE = "efficientnet_lite0"
ALL_STAGES = {
    "fetch",
    "tfrecord",
    f"bottleneck-extract@{BACKBONE}",
    *(f"train-heads@{BACKBONE}-{head}" for head in HEADS),
    *(f"evaluate@{BACKBONE}-{head}" for head in HEADS),
    *(f"fewshot@{BACKBONE}-{head}-5" for head in ("logistic", "ridge")),
    "combine@combined-average",
    f"audit@{BACKBONE}",
    f"map@{BACKBONE}",
    f"finetune@{BACKBONE}",
    f"evaluate-finetuned@{BACKBONE}",
    "train-scratch",
    "evaluate-scratch",
    "report",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which every stage has run."""
    project = Project(tmp_path_factory.mktemp("first"))
    assert project.repro() == ALL_STAGES
    project.commit()
    return project


@pytest.fixture
def restored(project):
    """The project as it was after its first run."""
    yield project
    project.git("checkout", "-q", ".")
    project.git("clean", "-fdq", "stages", "metrics", "data/pictures")
    project.run("dvc", "checkout", "--force", "-q")


def test_two_runs_from_nothing_give_the_same_bytes(project, tmp_path):
    other = Project(tmp_path / "second")
    assert other.repro() == ALL_STAGES
    assert other.outs() == project.outs()
    assert len(project.outs()) >= len(ALL_STAGES)


def test_nothing_changed_runs_nothing(restored):
    assert restored.repro() == set()


def test_a_heads_parameter_reruns_that_head_its_evaluation_and_the_report(restored):
    restored.set({"ridge.penalties": [5.0]})
    assert restored.repro() == {
        f"train-heads@{BACKBONE}-ridge",
        f"evaluate@{BACKBONE}-ridge",
        f"fewshot@{BACKBONE}-ridge-5",
        "combine@combined-average",
        f"audit@{BACKBONE}",  # by the first head, which ridge is
        f"map@{BACKBONE}",
        "report",
    }


def test_a_new_head_reruns_itself_the_combination_and_the_report(restored):
    heads = restored.folder / "stages" / "plugins" / "heads"
    shutil.copytree(heads / "ridge", heads / "ridge_again")
    restored.set({"heads": [*HEADS, "ridge_again"]})
    restored.set({"ridge_again": {"features": "logits", "scaling": "none", "power": 1.0, "penalties": [1.0, 10.0]}})
    own = {f"train-heads@{BACKBONE}-ridge_again", f"evaluate@{BACKBONE}-ridge_again"}
    assert restored.repro() == own | {"combine@combined-average", "report"}


# For the size of the model, evaluations run the backbone, too.
OF_BACKBONE = {
    f"{stage}@{BACKBONE}" for stage in ("bottleneck-extract", "finetune", "evaluate-finetuned", "audit", "map")
}
OF_BACKBONE |= {"combine@combined-average"}
OF_BACKBONE |= {f"{stage}@{BACKBONE}-{head}" for stage in ("train-heads", "evaluate") for head in HEADS}
OF_BACKBONE |= {f"fewshot@{BACKBONE}-{head}-5" for head in ("ridge", "logistic")}
OF_HEAD = {f"{stage}@{BACKBONE}-xgboost" for stage in ("train-heads", "evaluate")} | {"combine@combined-average"}


def test_editing_a_plugin_reruns_what_runs_it(restored):
    """The report does not run: the same code apart from a comment gives the same metrics."""
    path = restored.folder / "stages" / "plugins" / "heads" / "xgboost" / "head.py"
    path.write_text(path.read_text() + "\n# edited\n")
    assert restored.repro() == OF_HEAD


def test_editing_a_row_of_backbones_reruns_what_runs_that_backbone(restored):
    """The heads, too: the fingerprint of the features, which stands in their files, covers the whole row."""
    path = restored.folder / "stages" / "plugins" / "backbones" / "families" / "efficientnet_lite.py"
    text = path.read_text()
    assert "0.751" in text
    assert "0.767" in text
    path.write_text(text.replace("0.767", "0.5") + "\n# edited\n")  # another network's
    assert restored.repro() == set()
    path.write_text(text.replace("0.751", "0.5"))
    extraction = f"bottleneck-extract@{BACKBONE}"
    assert restored.repro("repro", extraction) == {extraction}
    assert restored.changed() == OF_BACKBONE - {extraction}


def test_a_new_image_is_seen(restored):
    write_images(restored.folder / "data" / "pictures", per_class=26)
    assert "tfrecord" in restored.repro("repro", "tfrecord")


def test_exp_run_with_fewer_heads_runs_the_combination_and_the_report(restored):
    ran = restored.repro("exp", "run", "-S", "heads=[ridge,logistic]")
    assert ran == {"combine@combined-average", "report"}
    table = (restored.folder / "artifacts" / "report" / "leaderboard.csv").read_text()
    assert "ridge" in table
    assert "xgboost" not in table
