"""The page for programs: what it answers as JSON, and that interface as an OpenAPI description."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from app.explanation import Deadline, Explained, not_sure
from app.predict import ranking
from app.web_upload import Upload
from stages.library.common.guarded_files import shortened

PATH = "/api/"
FIELDS = "image", "model", "top"
TOP, MOST_CLASSES = 5, 1000
ERRORS = {
    400: "the request is no form",
    403: "it comes from another web site",
    413: "the file is too large",
    422: "a field breaks its rule, or the image can't be used",
    500: "the model can't be loaded; the terminal of the server says why",
    503: "too many requests at once, or this one took too long: try again after the header Retry-After",
}


class FieldError(Exception):
    """A field of a request breaks its rule."""


class Wanted(NamedTuple):
    """What a program asks for, checked."""

    model: str
    top: int


def wanted(upload: Upload, models: Sequence[str]) -> Wanted:
    """Checks the fields of a request, the first model and TOP where they are empty; FieldError: one breaks its rule."""
    if unknown := [name for name in upload.fields if name not in FIELDS]:
        raise FieldError(f"{shortened(unknown[0])} is no field; the fields are {', '.join(FIELDS)}")
    model, top = upload.model, upload.top
    if model and model not in models:
        raise FieldError(f"`model` must be one of {', '.join(models)}. Received: {shortened(model)}")
    is_number = top.isascii() and top.isdecimal() and len(top) <= len(str(MOST_CLASSES))
    if top and not (is_number and 1 <= int(top) <= MOST_CLASSES):
        raise FieldError(f"`top` must be a whole number from 1 to {MOST_CLASSES}. Received: {shortened(top)}")
    return Wanted(model or models[0], int(top or TOP))


def predict(explained: Explained, image: np.ndarray, top: int, deadline: Deadline) -> dict[str, Any]:
    """Answers for one normalised image, uint8 RGB (height, width, 3); raises TooSlowError after the deadline."""
    model = explained.model
    deadline.check()
    (probabilities,), shares = model.answer([pixels[None] for pixels in model.inputs(image)])
    known = (
        {"unlike": None, "farther_out": None}
        if shares is None
        else {"unlike": bool(shares[0] < model.threshold), "farther_out": round(float(shares[0]), 6)}
    )
    classes = [{"class": name, "probability": share} for name, share in ranking(probabilities, model.classes, top)]
    return {"model": model.name, **known, "not_sure": not_sure(model, probabilities), "classes": classes}


def description(models: Sequence[str], upload_bytes: int, pixels: int) -> dict[str, Any]:
    """Returns the interface of a server with these models and limits, as OpenAPI 3.1 has it."""
    limits = f"At most {upload_bytes:,} bytes and {pixels:,} pixels."
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    text = {"type": "string"}
    form = _object(
        {
            "image": text | {"format": "binary", "description": f"A file of an image. {limits}"},
            "model": text | {"enum": list(models), "default": models[0], "description": "Of the leaderboard."},
            "top": {"type": "integer", "minimum": 1, "maximum": MOST_CLASSES, "default": TOP},
        },
        required=["image"],
    )
    answer = _object(
        {
            "model": text,
            "unlike": {
                "type": ["boolean", "null"],
                "description": "Whether the image is unlike the training images; null: not known for this model.",
            },
            "farther_out": probability
            | {
                "type": ["number", "null"],
                "description": "The share of known images at least as far out from the training images.",
            },
            "not_sure": {
                "type": ["array", "null"],
                "items": text,
                "description": "The classes that it may be where the model is not sure enough to answer; else null.",
            },
            "classes": {
                "type": "array",
                "description": "The likeliest first.",
                "items": _object({"class": text, "probability": probability}),
            },
        }
    )
    responses = {"200": _json("The likeliest classes.", answer)}
    responses |= {
        str(status): _json(f"{said[0].upper()}{said[1:]}.", _object({"error": text})) for status, said in ERRORS.items()
    }
    operation = {
        "operationId": "predict",
        "summary": "Names what is in an image.",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": responses,
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Decant",
            "version": "1",
            "description": "One image a request, within the limits of the page.",
        },
        "servers": [{"url": ".."}],  # from the address of this description, wherever a proxy has put it
        "paths": {f"{PATH}predict": {"post": operation}},
    }


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


def _json(said: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": said, "content": {"application/json": {"schema": schema}}}
