"""The page for programs: its answers, its errors, and that both are as its OpenAPI description says."""

from dataclasses import replace

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
import requests

from app import web_api
from app.explanation import Deadline, Explained
from stages.library.common.console import UserError
from stages.library.scoring.operating import Operating
from tests.serving import FORM, UNTRAINED, UPLOAD_BYTES, Models, png, serving

MODEL = "imagenet/efficientnet_lite0"


@pytest.fixture(scope="module")
def site():
    assert UNTRAINED.settings["backbones"] == ["efficientnet_lite0"]
    with serving() as (url, _):
        yield url


@pytest.fixture(scope="module")
def described(site):
    description = requests.get(f"{site}/api/openapi.json", timeout=9).json()
    (path,) = description["paths"]
    return site + path, description["paths"][path]["post"]


def ask(url, content=None, headers=None, **fields):
    files = [("image", ("a.png", png() if content is None else content))] if content != b"" else [("image", (None, ""))]
    return requests.post(url, files=files, data=fields, headers=headers, timeout=60)


def checked(described, answer):
    """An answer's status and content, which are as the description has them."""
    schema = described[1]["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(answer.json(), schema)
    return answer.status_code, answer.json()


def test_the_likeliest_classes_of_an_image(described):
    status, found = checked(described, ask(described[0]))
    assert status == 200
    assert found == {
        "model": MODEL,
        "not_sure": None,
        "unlike": None,
        "farther_out": None,
        "classes": [{"class": "<b>bright", "probability": 1.0}, {"class": "dark", "probability": 0.0}],
    }
    assert checked(described, ask(described[0], png(51), model=MODEL, top=1))[1]["classes"] == [
        {"class": "dark", "probability": 0.8}
    ]


@pytest.mark.parametrize(
    ("request_of", "status", "words"),
    [
        ({"content": b""}, 422, "`image` must be a file with a name. Received: none"),
        ({"content": b"GIF89a"}, 422, "image"),
        ({"content": png(size_px=(200, 200))}, 422, "more than 0.01 megapixels: 200 x 200 px"),
        ({"content": bytes(UPLOAD_BYTES + 1)}, 413, "At most 0.2 MB"),
        ({"model": "ridge\n"}, 422, f"`model` must be one of {MODEL}. Received: 'ridge"),
        *(
            ({"top": top}, 422, "`top` must be a whole number from 1 to 1000. Received: ")
            for top in ("0", "1001", "-1", "1e3", "²", "9" * 4000)
        ),
        ({"tpo": 3}, 422, "'tpo' is no field; the fields are image, model, top"),
        ({"headers": {"Sec-Fetch-Site": "cross-site"}}, 403, "own form only"),
    ],
)
def test_errors_name_the_field_the_rule_and_the_value(described, request_of, status, words):
    found, content = checked(described, ask(described[0], **request_of))
    assert found == status
    assert words in content["error"]
    assert len(content["error"]) < 300


def test_what_is_no_form_or_address_or_method_is_told_in_json(described, site):
    answer = requests.post(described[0], data=b"{}", headers=FORM, timeout=9)
    assert checked(described, answer)[0] == 400
    for wrong, status in ((f"{site}/api/nothing", 404), (described[0], 405)):
        answer = requests.get(wrong, timeout=9)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_its_limits_are_those_of_the_form_and_no_error_shows_a_path(described, capsys):
    with serving(concurrency=1, queue=0, request_seconds=0.5) as (url, models):
        address = described[0].replace(described[0].split("/api")[0], url)
        models.gate.clear()
        status, content = checked(described, ask(address))
        assert (status, "more than 0.5 seconds" in content["error"]) == (503, True)
        busy = ask(address)
        assert checked(described, busy)[0] == 503
        assert busy.headers["Retry-After"] == "5"
    with serving() as (url, models):
        models.error = UserError("/secret/place is damaged")
        status, content = checked(described, ask(described[0].replace(described[0].split("/api")[0], url)))
        assert (status, content["error"]) == (
            500,
            "This model can't be loaded; the terminal of the server says why. Please choose another one.",
        )
    assert "/secret/place" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "classes"), [(255, None), (140, ["<b>bright", "dark"]), (215, ["<b>bright"])])
def test_where_the_model_is_not_sure_enough_the_classes_that_it_may_be_are_told(value, classes):
    bright = Models().get(MODEL, None).model
    explained = Explained(replace(bright, operating=Operating(confidence=0.9, in_set=0.3)), "none", None)
    image = np.full((4, 4, 3), value, np.uint8)
    assert web_api.predict(explained, image, 1, Deadline(60))["not_sure"] == classes


def test_the_description_is_openapi_that_names_every_field_and_limit():
    found = web_api.description(["a/ridge", "scratch"], 1000, 2000)
    assert (found["openapi"], found["servers"]) == ("3.1.0", [{"url": ".."}])
    form = found["paths"]["/api/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    jsonschema.Draft202012Validator.check_schema(form)
    assert form["required"] == ["image"]
    assert form["properties"]["model"]["enum"] == ["a/ridge", "scratch"]
    assert "1,000 bytes and 2,000 pixels" in form["properties"]["image"]["description"]
