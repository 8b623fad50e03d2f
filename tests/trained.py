"""A small project with one model of each kind, trained as dvc.yaml trains them."""

import pytest
from conftest import call_stage, changed_params, write_images

BACKBONE = "efficientnet_lite0"
HEADS = ("ridge", "dnn", "xgboost")
SIZE_PX = 64
CHANGES = {
    "dataset.name": "folder",
    "extract.input_size_px": SIZE_PX,
    "backbones": [BACKBONE],
    "heads": list(HEADS),
    "cross_validation.folds": 2,
    "dnn.hidden_units": [32],
    "dnn.epochs": 4,
    "xgboost.num_trees": 10,
    "combine.methods": ["average", "stacking"],
    "combine.finetuned": ["stacking"],
    "finetune.unfrozen_blocks": 1,
    "finetune.epochs": 2,
    "scratch.epochs": 2,
}


def build(root, images=None, changes=CHANGES):
    """Writes params.yaml, data, artifacts and metrics of a project into a folder, as `dvc repro` does; returns it."""
    images = images or write_images(root / "data" / "pictures", per_class=16, size_px=40)
    params = changed_params(root, changes | {"dataset.folder": str(images)})
    (backbone,) = changes["backbones"]
    artifacts, shards, tensorboard = root / "artifacts", root / "data" / "tfrecord", root / "tensorboard"
    features = artifacts / "bottlenecks" / backbone
    records = ("--records", shards)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DECANT_CACHE", str(root / "cache"))

        def run(name, *options):
            call_stage(name, "--params", params, *options)

        def evaluate(name, *options, stage="evaluate"):
            outs = "--metrics", root / "metrics" / f"{name}.json", "--figures", artifacts / "evaluation" / name
            run(stage, *records, *options, *outs)

        run("fetch", "--out", root / "data" / "raw")
        run("tfrecord", "--raw", root / "data" / "raw", "--out", shards, "--examples", root / "data" / "examples.png")
        run("bottleneck_extract", "--backbone", backbone, *records, "--out", features)
        for head in changes["heads"]:
            folder = artifacts / "heads" / backbone / head
            run("train_heads", "--head", head, "--bottlenecks", features, "--out", folder)
            evaluate(f"{backbone}/{head}", "--head", folder, "--bottlenecks", features)
        boards = ("--tensorboard", tensorboard / "finetuned")
        finetuned, scratch = artifacts / "finetuned" / backbone, artifacts / "scratch"
        logits = artifacts / "logits"
        run("finetune", "--backbone", backbone, *records, "--bottlenecks", features, *boards, "--out", finetuned)
        evaluate(f"{backbone}/finetuned", "--network", finetuned, "--logits", logits / backbone,
                 stage="evaluate_network")  # fmt: skip
        whole = "--heads", artifacts / "heads", "--bottlenecks", artifacts / "bottlenecks"
        networks = "--finetuned", finetuned.parent, "--logits", logits
        for key, place, given in (
            ("methods", "combined", whole),
            ("finetuned", "combined/finetuned", whole + networks),
        ):
            for method in changes[f"combine.{key}"]:
                out = "--method", method, "--out", artifacts / place / method
                evaluate(f"{place}/{method}", *given, *out, stage="combine")
        run("train_scratch", *records, "--tensorboard", tensorboard / "scratch", "--out", scratch)
        evaluate("scratch", "--network", scratch, stage="evaluate_network")
        run("report", *records, "--metrics", root / "metrics", "--evaluations", artifacts / "evaluation",
            "--out", artifacts / "report", "--few-shot", artifacts / "few_shot.csv")  # fmt: skip
    return root
