"""app.costs: what is measured, that it can be drawn, and the command."""

import csv
import sys
import time

import numpy as np
import pytest
from PIL import Image

from app import costs
from app.costs import Cost
from stages.library.report import page as report_page


def cost(model, accuracy, batch_ms):
    return Cost(model, accuracy, 2 * batch_ms, batch_ms, 60.0, 1_000_000)


def test_times_are_medians_an_image_without_the_first_call():
    calls = []

    def predict(batch):
        calls.append(len(batch))
        first = calls.count(len(batch)) == 1
        time.sleep(0.3 if first else 0.002 * len(batch))

    single, batch = (costs.median_ms(predict, [b""] * 64, size) for size in (1, costs.BATCH))
    assert 2 <= single < 100
    assert 2 <= batch < 100
    assert calls == [1] * 65 + [costs.BATCH] * 5


def test_any_number_of_models_can_be_drawn(tmp_path):
    for count in (1, 2, 30):
        models = [cost(f"backbone/{'x' * 60}{n}", 0.5 + n / 100, 1 + n) for n in range(count)]
        path = tmp_path / f"{count}.png"
        path.write_bytes(costs.draw(models))
        with Image.open(path, formats=("PNG",)) as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_a_wrong_number_of_images_is_rejected(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app.costs", "--images", "15"])
    with pytest.raises(SystemExit, match="2"):
        costs.main()
    assert "--images must be at least 16. Received: 15" in capsys.readouterr().err


@pytest.mark.slow
def test_the_program_measures_every_model(trained_project, tmp_path, monkeypatch, capsys):
    options = ["--project", str(trained_project), "--out", str(tmp_path / "costs"), "--images", "16"]
    monkeypatch.setattr(sys, "argv", ["app.costs", *options])
    costs.main()
    with (tmp_path / "costs" / "costs.csv").open(encoding="utf-8") as file:
        rows = {row["model"].rsplit("/", 1)[-1]: row for row in csv.DictReader(file)}
    assert set(rows) == {"ridge", "dnn", "xgboost", "finetuned", "scratch"}
    assert all(float(row["single_ms"]) > 0 for row in rows.values())
    # Features first, and a network that sees images needs none. The data set has 48.
    seconds = {name: float(row["extract_seconds"]) for name, row in rows.items()}
    assert (seconds["finetuned"], seconds["scratch"]) == (0, 0)
    assert 0 < seconds["ridge"] < 48
    # 3.4 million parameters of the backbone, 4 bytes each, and a head of 1,280 x 3.
    assert float(rows["ridge"]["size_bytes"]) == pytest.approx(13.5e6, rel=0.01)
    assert float(rows["scratch"]["size_bytes"]) < 4e6
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("costs: 5 models")
    assert "open artifacts/report/index.html" in printed[-1]
    assert max(map(len, printed[:-1])) <= 80
    # The report, which DVC made before, shows the image from there.
    page = (trained_project / "artifacts" / "report" / "index.html").read_text(encoding="utf-8")
    assert report_page.MEASURED_COSTS in page
    default = trained_project / "artifacts" / "costs" / "costs.png"
    assert (trained_project / "artifacts" / "report" / report_page.MEASURED_COSTS).resolve() == default.resolve()
