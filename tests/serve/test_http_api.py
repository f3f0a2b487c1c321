"""What the API answers, and what it refuses."""

import base64
import contextlib
import hashlib
import io
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from serving import LOCAL, bright_config, make_api, png, serving, wait_for
from starlette.testclient import TestClient

from diffad_jax.serve.limits import Limits
from diffad_jax.serve.openapi import description


@pytest.fixture
def start(monkeypatch, tmp_path):
    """(limits, token) -> (client, service); all are closed afterwards."""
    config = bright_config(monkeypatch, tmp_path / "photos")
    with contextlib.ExitStack() as stack:

        def begin(limits=None, token="", watched=False):
            folder = tmp_path / "line"
            folder.mkdir(exist_ok=True)
            client, service = stack.enter_context(
                serving(
                    config,
                    tmp_path / "work",
                    token=token,
                    limits=limits,
                    watched=folder if watched else None,
                )
            )
            (folder / "a.png").write_bytes(png(0.9))
            return client, service

        yield begin


@pytest.fixture
def started(start):
    """The client and the service."""
    return start()


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(red=st.floats(0, 1), height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_photo_is_scored_and_judged(started, red, height, width):
    client, service = started
    data = png(red, (height, width))
    response = client.post("/v1/predict?name=a.png", content=data)
    (answer,) = response.json()["photos"]
    assert answer == {
        "category": "lamps",
        "name": "a.png",
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": width,
        "height": height,
        "score": pytest.approx(round(255 * red) / 255, abs=1e-6),
        "is_anomalous": answer["score"] > service.model.calibration.threshold,
        "threshold": service.model.calibration.threshold,
        "num_regions": int(answer["is_anomalous"]),
        "regions": answer["regions"],
    }
    if answer["is_anomalous"]:  # all of the photo is one region
        assert answer["regions"][0]["box"] == [0, 0, width, height]


def test_several_photos_keep_their_order_whatever_batch_they_fall_into(start):
    client, _ = start()
    reds = np.random.default_rng(0).random(11)
    files = [("photo", (f"{i}.png", png(red))) for i, red in enumerate(reds)]
    answers = client.post("/v1/predict", files=files).json()["photos"]
    assert [a["name"] for a in answers] == [f"{i}.png" for i in range(11)]
    np.testing.assert_allclose([a["score"] for a in answers], reds, atol=1 / 255)


def test_pictures_come_when_they_are_wanted(start):
    client, service = start()
    wanted = ",".join(service.pictures)
    answer = client.post(f"/v1/predict?pictures={wanted}", content=png(0.1, (600, 300))).json()
    for kind, data in answer["photos"][0]["pictures"].items():
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (256, 512), kind
    assert client.post("/v1/predict?pictures=all", content=png(0.1)).status_code == 400


def test_a_broken_photo_among_others_costs_only_itself(start):
    client, _ = start()
    files = [("p", ("a.png", png(0.0))), ("p", ("b.png", b"junk")), ("p", ("c.png", png(0.1)[:60]))]
    response = client.post("/v1/predict", files=files)
    errors = [photo.get("error", "") for photo in response.json()["photos"]]
    assert response.status_code == 200
    assert not errors[0] and "no image" in errors[1] and "damaged" in errors[2]
    assert client.post("/v1/predict", content=b"junk").status_code == 422


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=400), form=st.booleans(), cut=st.integers(0, 400))
def test_junk_is_refused_in_words(started, body, form, cut):
    client, _ = started
    head = {"content-type": "multipart/form-data; boundary=x"} if form else {}
    for content in (body, b"--x\r\n" + body, png(0.3)[:cut]):
        response = client.post("/v1/predict", content=content, headers=head)
        assert response.status_code in (400, 422)
        assert "error" in response.text


def test_what_is_too_much_is_refused(start):
    client, service = start(Limits(body_mib=0.01, photos=2, waiting=3))
    assert client.post("/v1/predict", content=bytes(20_000)).status_code == 413
    many = [("p", ("a.png", png(0.0, (2, 2))))] * 3
    assert client.post("/v1/predict", files=many).status_code == 400  # of the form's parser
    assert client.post("/v1/predict", files=many[:2]).status_code == 200
    with service.common.gate.enter() as held:
        held.add(photos=1)
        with service.common.gate.enter():
            full = client.post("/v1/predict", content=png(0.0))
    assert (full.status_code, full.headers["retry-after"]) == (503, "1")
    assert client.post("/v1/predict", content=png(0.0)).status_code == 200
    assert service.common.gate.photos == 0


def test_a_photo_of_too_many_pixels_is_refused_before_it_is_decoded(start):
    client, _ = start()
    data = bytearray(png(0.5))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    answer = client.post("/v1/predict", content=bytes(data))
    assert answer.status_code == 422 and "photo_mib" in answer.text


def test_a_token_is_asked_for_where_there_is_one(start):
    client, _ = start(token="0123456789abcdef")
    assert client.get("/healthz").status_code == 200
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer ä"}):
        encoded = {k: v.encode() for k, v in header.items()}
        assert client.get("/v1/model", headers=encoded).status_code == 401
    right = {"authorization": "Bearer 0123456789abcdef"}
    assert client.get("/v1/model", headers=right).json()["category"] == "lamps"


def test_pages_from_elsewhere_may_not_ask(start):
    client, _ = start()
    assert client.get("/v1/model", headers={"origin": "http://127.0.0.1:8000"}).is_success
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9000", "http://["):
        assert client.get("/v1/model", headers={"origin": origin}).status_code in (400, 403)
    for host in ("evil.example", "127.0.0.1.evil.example:8000", "[", "", "10.0.0.1"):
        assert client.get("/v1/model", headers={"host": host}).status_code == 421
    for host in ("localhost:8000", "[::1]:8000"):
        assert client.get("/v1/model", headers={"host": host}).status_code == 200


def test_every_answer_has_the_headers_that_browsers_obey(start):
    client, _ = start()
    for path in ("/healthz", "/nothing", "/v1/predict", "/../etc/passwd"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers and "set-cookie" not in headers


def test_metrics_count_what_was_asked(start):
    client, _ = start()
    client.post("/v1/predict", content=png(0.0))
    client.get("/nothing/9")
    text = client.get("/metrics").text
    assert 'diffad_requests_total{path="/v1/predict",status="200"} 1.0' in text
    assert 'diffad_requests_total{path="other",status="404"} 1.0' in text
    assert "diffad_photos_waiting 0.0" in text and "diffad_verdicts_total{" in text


def test_the_examples_of_the_description_are_what_the_server_takes_and_gives(start):
    """Each is sent as it stands, in an order in which it can succeed."""
    client, service = start(watched=True)
    described = client.get("/openapi.json").json()
    assert described == description()
    paths = described["paths"]
    assert {*paths, "/", "/openapi.json"} == {route.path for route in client.app._app.routes}
    (watched,) = wait_for(lambda: client.get("/v1/watched").json()["photos"])

    def ask(method, path, **changed):
        operation = paths[path][method]
        given = {p["name"]: p["example"] for p in operation["parameters"] if "example" in p}
        given |= changed
        body = png(0.9) if "requestBody" in operation else None
        url = path.format(**given)
        answer = client.request(method, url, params=given, content=body)
        status = str(answer.status_code)
        media = operation["responses"][status]["content"]["application/json"]
        assert alike(answer.json(), media["example"]), (path, answer.text)
        return answer.json()

    ask("get", "/v1/categories")
    ask("get", "/v1/model")
    ask("post", "/v1/predict")
    ask("get", "/v1/watched")
    ask("get", "/v1/watched/{number}", number=watched["id"])
    ask("post", "/v1/corrections")
    effect = ask("get", "/v1/recalibration")
    ask("post", "/v1/recalibration", threshold=repr(effect["threshold"]["after"]))
    ask("get", "/v1/corrections")
    ask("post", "/v1/recalibration/undo")


def alike(found, example):
    """Whether an answer has the fields and the kinds of an example."""
    if isinstance(example, dict):
        same = found.keys() - {"pictures"} == example.keys() - {"pictures"}
        return same and all(alike(found[n], example[n]) for n in example)
    if isinstance(example, list):
        return all(alike(each, example[0]) for each in found)
    number = isinstance(example, int | float) and not isinstance(example, bool)
    return isinstance(found, int | float if number else type(example))


def test_a_stop_answers_what_is_at_work(monkeypatch, tmp_path):
    api, service = make_api(bright_config(monkeypatch, tmp_path / "photos"), tmp_path / "work")
    futures = [service._batcher.submit(np.zeros((16, 16, 3), np.uint8)) for _ in range(9)]
    api._categories.close()
    assert all(np.isfinite(future.result(0).score) for future in futures)
    assert TestClient(api.app(), LOCAL).post("/v1/predict", content=png(0.0)).status_code == 503
    assert threading.active_count() < 50
