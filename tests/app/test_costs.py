"""app.costs: what is measured, that it can be drawn, and the command."""

import time

import pandas as pd
import pytest

from app import costs
from app.costs import Cost
from stages.library.figures import thumbnails
from stages.library.report import page as report_page


def test_times_are_medians_an_image_without_the_first_call():
    calls = []

    def predict(batch):
        time.sleep(0.002 * len(batch) if len(batch) in calls else 0.3)
        calls.append(len(batch))

    single, batch = (costs.median_ms(predict, [b""] * 64, size) for size in (1, costs.BATCH))
    assert 2 <= single < 100
    assert 2 <= batch < 100
    assert calls == [1] * 65 + [costs.BATCH] * 5


@pytest.mark.parametrize("count", [1, 2, 30])
def test_any_number_of_models_can_be_drawn(count):
    models = [Cost(f"backbone/{'x' * 60}{n}", 0.5 + n / 100, 2 + 2 * n, 1 + n, 60.0, 10**6) for n in range(count)]
    assert thumbnails.decode(costs.draw(models)).std() > 5


@pytest.mark.slow
def test_the_program_measures_every_model(trained_project, tmp_path, run_app):
    _, out, _ = run_app("costs", "--project", trained_project, "--out", tmp_path / "costs", "--images", 16)
    rows = pd.read_csv(tmp_path / "costs" / "costs.csv", index_col="model").rename(
        lambda name: name.removeprefix("efficientnet_lite0/").removeprefix("combined/")
    )
    combined = {"average", "stacking", "finetuned/stacking"}
    assert set(rows.index) == {"ridge", "dnn", "xgboost", "finetuned", "scratch", *combined}
    assert (rows["single_ms"] > 0).all()
    # Features first, and a network that sees images needs none. The data set has 48.
    seconds = rows["extract_seconds"]
    assert (seconds["finetuned"], seconds["scratch"]) == (0, 0)
    assert 0 < seconds["ridge"] < 48
    # 3.4 million parameters of the backbone, 4 bytes each, and a head of 1,280 x 3.
    assert rows["size_bytes"]["ridge"] == pytest.approx(13.5e6, rel=0.01)
    assert rows["size_bytes"]["scratch"] < 4e6
    # A combination has its heads' files, and the backbone once.
    own = {head: rows["size_bytes"][head] - 4 * 3_371_008 for head in ("ridge", "dnn", "xgboost")}
    assert rows["size_bytes"]["stacking"] - 4 * 3_371_008 == pytest.approx(sum(own.values()), rel=0.01)
    assert 0 < seconds["stacking"] < 48
    # Here stacking falls back to the fine-tuned network, which needs no features.
    assert rows["size_bytes"]["finetuned/stacking"] == pytest.approx(rows["size_bytes"]["finetuned"], rel=0.001)
    assert seconds["finetuned/stacking"] == 0
    printed = out.splitlines()
    assert printed[-1].startswith("costs: 8 models")
    assert "open artifacts/report/index.html" in printed[-1]
    assert max(map(len, printed[:-1])) <= 80
    # The report, which DVC made before, shows the image from there.
    page = (trained_project / "artifacts" / "report" / "index.html").read_text(encoding="utf-8")
    assert report_page.MEASURED_COSTS in page
    default = trained_project / "artifacts" / "costs" / "costs.png"
    assert (trained_project / "artifacts" / "report" / report_page.MEASURED_COSTS).resolve() == default.resolve()
