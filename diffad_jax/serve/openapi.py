"""``/openapi.json``, the description of the API. The tests send its examples."""

from typing import Any

import diffad_jax
from diffad_jax.data.corrections import LABELS

Schema = dict[str, Any]

_PHOTO = {
    "category": "bottle",
    "name": "000.png",
    "sha256": "b1946ac92492d2347c6235b4d2611184b1946ac92492d2347c6235b4d2611184",
    "width": 900,
    "height": 900,
    "score": 3.5,
    "is_anomalous": True,
    "threshold": 2.5,
    "num_regions": 1,
    "regions": [{"box": [40, 52, 9, 12], "area": 80, "peak": 4.0, "peak_at": [44, 57]}],
}
_ERROR = {"error": "a request may have 64 photos at most"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"photo": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
}
_MODEL = {
    "category": "bottle",
    "method": "the one that config.method names",
    "image_size": [256, 256],
    "weights": "0f3a",
    "threshold": 2.5,
    "pixel_threshold": 2.5,
    "false_alarm_rate": 0.05,
    "num_held_out_normal": 21,
    "num_accepted": 3,
    "held_out_scores": [1.5, 2.5],
    "pictures": ["photo", "overlay", "heat_map"],
    "photos_a_request": 64,
    "mib_a_request": 64,
    "corrections": True,
    "no_corrections": None,
    "watching": False,
    "version": diffad_jax.__version__,
}

_STATE = {
    "good": 3,
    "known": 0,
    "defect": 1,
    "calibrations": [
        {
            "who": "Ada",
            "when": "2026-01-31T12:00:00+01:00",
            "threshold": 2.75,
            "num_accepted": 3,
            "counts": True,
        }
    ],
}
_CHANGE = {"before": 3, "after": 0, "of": 3}
_EFFECT = {
    "threshold": {"before": 2.5, "after": 2.75},
    "held_out_called_anomalous": _CHANGE,
    "accepted_called_anomalous": _CHANGE,
    "defects_called_anomalous": _CHANGE,
    "refitted": ["normal_level"],
}


def description() -> Schema:
    """The description, by OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "diffad_jax", "version": diffad_jax.__version__},
        "security": [{}, {"token": []}],
        "paths": {
            "/v1/predict": {"post": _predict()},
            "/v1/categories": {"get": _get(
                "The server's categories, and whether photos may come without the name of theirs.",
                {"categories": ["bottle", "capsule"], "told_by_photo": True},
            )},
            "/v1/model": {"get": _get("A detector and its calibration.", _MODEL, _CATEGORY)},
            "/v1/watched": {"get": _get(
                "Answers on photos of the watched folder, a hundred at most.",
                {"photos": [{"id": 1, **_PHOTO}]},
                _query("after", "the id of the last one that is known", 0, type="integer"),
            )},
            "/v1/watched/{number}": {"get": _get(
                "One of them, read and scored again.", {"id": 1, **_PHOTO},
                _needed(_query("number", "its id", 1, type="integer")) | {"in": "path"}, _WANTED,
            )},
            "/v1/corrections": {
                "get": _get(
                    "How many there are, and the calibrations that were taken.", _STATE, _CATEGORY
                ),
                "post": _correct(),
            },
            "/v1/recalibration": {
                "get": _get(
                    "What a recalibration would change, now and after.", _EFFECT, _CATEGORY
                ),
                "post": _post(
                    "Takes the calibration of this threshold, if it is still the one shown.",
                    _EFFECT | _STATE,
                    _needed(_query("threshold", "that of the effect, after", 2.75, type="number")),
                    _WHO,
                    _CATEGORY,
                ),
            },
            "/v1/recalibration/undo": {"post": _post(
                "The calibration before the present one counts again.", _STATE, _WHO, _CATEGORY
            )},
            "/healthz": {"get": _text("Says ok while the server takes photos.", "ok\n")},
            "/metrics": {"get": _text("Counters, in the text format of Prometheus.", None)},
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }  # fmt: skip


def _predict() -> Schema:
    return {
        "summary": "Scores photos.",
        "description": "A photo that scores above the threshold is anomalous; where there is no "
        "threshold, is_anomalous is null. A photo that cannot be read, or is like none of the "
        "categories, has an error in place of a score. Of several photos the answers come in their "
        "order.",
        "parameters": [_CATEGORY, _WANTED, _NAME, _AGAIN],
        "requestBody": {
            "required": True,
            "description": "A photo (PNG, JPEG, BMP, TIFF or HEIC), or a form with several files.",
            "content": {"application/octet-stream": _BINARY, "multipart/form-data": _FORM},
        },
        "responses": {
            "200": _answer("At least one photo could be read.", {"photos": [_PHOTO]}),
            "422": _answer(
                "No photo could be read.",
                {"photos": [{"name": "000.png", "error": "the photo is no image …"}]},
            ),
            **_refusals("400", "408", "413", "503"),
        },
    }  # fmt: skip


_REFUSALS = {
    "400": "The request is not as it should be.",
    "401": "The token is missing or wrong.",
    "403": "A page from elsewhere asked.",
    "404": "There is no such photo.",
    "408": "The body did not arrive in time.",
    "409": "It cannot be done now; the answer says why.",
    "413": "The request is too large.",
    "422": "The photo cannot be read.",
    "421": "The server was asked by another name than this machine's.",
    "503": "Too many photos are waiting: ask again after Retry-After seconds; or, without that "
    "header, the disk is full or refuses.",
}


def _refusals(*codes: str) -> Schema:
    return {
        code: _answer(_REFUSALS[code], _ERROR) for code in sorted({*codes, "401", "403", "421"})
    }


def _correct() -> Schema:
    described = _post(
        "Keeps a photo and what an inspector says of it; both are on the disk when it answers.",
        {"sha256": _PHOTO["sha256"], **_STATE},
        _needed(_query("label", "none takes an earlier one back", "good", enum=[*LABELS])),
        _query("watched", "the id of a watched photo, in place of a body", None, type="integer"),
        _NAME,
        _WHO,
        _CATEGORY,
    )
    described["requestBody"] = {"content": {"application/octet-stream": _BINARY}}
    described["responses"] |= _refusals("400", "408", "413", "422", "503")
    return described


def _get(summary: str, example: Schema, *parameters: Schema) -> Schema:
    answers = {"200": _answer("So it is.", example), **_refusals("400", "404", "409", "503")}
    return {"summary": summary, "parameters": [*parameters], "responses": answers}


def _post(summary: str, example: Schema, *parameters: Schema) -> Schema:
    answers = {"201": _answer("It is kept.", example), **_refusals("400", "409", "503")}
    return {"summary": summary, "parameters": [*parameters], "responses": answers}


def _text(summary: str, example: str | None) -> Schema:
    content = {
        "text/plain": {"schema": {"type": "string"}} | ({"example": example} if example else {})
    }
    return {"summary": summary, "responses": {"200": {"description": summary, "content": content}}}


def _answer(said: str, example: Schema) -> Schema:
    media = {"schema": _schema(example), "example": example}
    return {"description": said, "content": {"application/json": media}}


def _schema(example: Any) -> Schema:
    """The schema that an example shows; any field of an answer may be null."""
    if isinstance(example, dict):
        return {"type": "object", "properties": {k: _schema(v) for k, v in example.items()}}
    if isinstance(example, list):
        return {"type": "array", "items": _schema(example[0]) if example else {}}
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "string"}
    return {"type": [kinds[type(example)], "null"]}


def _query(name: str, said: str, example: Any, **kind: Any) -> Schema:
    """A parameter; ``kind`` is its schema where it is no text."""
    shown = {} if example is None else {"example": example}
    schema = kind or {"type": "string"}
    return {"name": name, "in": "query", "description": said, "schema": schema, **shown}


def _needed(parameter: Schema) -> Schema:
    return {**parameter, "required": True}


_CATEGORY = _query(
    "category",
    "where the server has several; /v1/predict tells it by the photo where it is left away and "
    "/v1/categories says told_by_photo",
    None,
)
_WANTED = _query(
    "pictures",
    "some of those that /v1/model names, with commas between: PNG in base64, the longer side at "
    "most 512 pixels",
    "heat_map",
)
_NAME = _query("name", "of the photo in the body, for the answer", "000.png")
_AGAIN = _query("again", "yes: neither counted nor told to the webhook, as it was before", "yes")
_WHO = _query("who", "the inspector", "Ada")
