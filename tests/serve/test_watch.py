"""New photos of a folder, and notices of anomalous ones."""

import dataclasses
import functools
import hashlib
import hmac
import http.server
import json
import os
import socket
import threading
import time

import pytest
from serving import bright_config, png, serving, wait_for

from diffad_jax.data import listing
from diffad_jax.data.listing import DataError
from diffad_jax.errors import ConfigError
from diffad_jax.serve.counts import Counts
from diffad_jax.serve.webhook import Webhook

SECRET = "0123456789abcdef"


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """(folder, serve): ``with serve() as (client, service)`` inspects what is new in the folder."""
    config = bright_config(monkeypatch, tmp_path / "photos")
    folder = tmp_path / "line"
    folder.mkdir()
    return folder, functools.partial(serving, config, tmp_path / "work", watched=folder)


def test_new_photos_appear_by_themselves_and_can_be_corrected(watched):
    folder, serve = watched
    (folder / "old.png").write_bytes(png(0.9))
    with serve() as (client, _):
        (folder / "sub").mkdir()
        (folder / "sub" / "new.png").write_bytes(png(0.9))
        (folder / "broken.png").write_bytes(b"junk")
        with open(os.fsencode(folder) + b"/odd\xff.png", "wb") as file:
            file.write(png(0.1))
        found = wait_for(
            lambda: len(p := client.get("/v1/watched?after=0").json()["photos"]) == 3 and p
        )
        by_name = {photo["name"]: photo for photo in found}
        assert by_name.keys() == {"sub/new.png", "broken.png", "odd�.png"}
        assert "error" in by_name["broken.png"] and by_name["sub/new.png"]["is_anomalous"]
        number = by_name["sub/new.png"]["id"]
        again = client.get(f"/v1/watched/{number}?pictures=heat_map").json()
        assert again["pictures"].keys() == {"heat_map"}
        kept = client.post(f"/v1/corrections?label=good&watched={number}")
        assert kept.status_code == 201 and kept.json()["good"] == 1
        assert client.get("/v1/watched/99").status_code == 404
        for number in ("x", "nan", "9" * 5000):
            assert client.get(f"/v1/watched/{number}").status_code == 400
        assert client.get(f"/v1/watched?after={max(p['id'] for p in found)}").json() == {
            "photos": []
        }


def photos_after(client, number, count):
    """Waits for this many answers."""
    path = f"/v1/watched?after={number}"
    return wait_for(lambda: len(p := client.get(path).json()["photos"]) == count and p)


def test_a_number_stands_for_the_photo_of_its_answer_alone(watched):
    folder, serve = watched
    with serve() as (client, _):
        (folder / "latest.png").write_bytes(png(0.9))
        (first,) = photos_after(client, 0, 1)
        (folder / "latest.png").write_bytes(png(0.1, seed=1))
        (second,) = photos_after(client, first["id"], 1)
        kept = client.post(f"/v1/corrections?label=defect&watched={first['id']}")
        assert kept.status_code == 404 and "has changed" in kept.json()["error"]
        assert client.get(f"/v1/watched/{first['id']}").status_code == 404
        assert client.get(f"/v1/watched/{second['id']}").json()["score"] == second["score"]
    with serve() as (client, _):
        (folder / "other.png").write_bytes(png(0.5))
        (other,) = photos_after(client, second["id"], 1)  # a page that stayed open asks so
        assert other["name"] == "other.png"
        assert client.get(f"/v1/watched/{second['id']}").status_code == 404


def test_a_folder_that_was_away_brings_its_photos_once(watched):
    folder, serve = watched
    (folder / "old.png").write_bytes(png(0.9))
    with serve() as (client, _):
        (folder / "a.png").write_bytes(png(0.9))
        (first,) = photos_after(client, 0, 1)
        away = folder.rename(folder.with_name("away"))
        time.sleep(0.3)  # six listings
        away.rename(folder)
        (folder / "b.png").write_bytes(png(0.9))
        found = wait_for(lambda: client.get(f"/v1/watched?after={first['id']}").json()["photos"])
        assert [photo["name"] for photo in found] == ["b.png"]


def test_a_folder_that_cannot_be_listed_is_said_once(watched, monkeypatch, capsys):
    folder, serve = watched
    with serve() as (client, _), monkeypatch.context() as m:
        refused = []

        def refuse(*_):
            refused.append(1)
            raise DataError("cannot read the folder line/new: Permission denied")

        m.setattr(listing, "find_photos", refuse)
        wait_for(lambda: len(refused) > 2)
        m.undo()
        (folder / "a.png").write_bytes(png(0.9))
        photos_after(client, 0, 1)
    said = capsys.readouterr().err
    assert said.count("no new photo is inspected, since cannot read the folder line/new") == 1


def test_a_failure_of_the_device_costs_one_photo_alone(watched, capsys):
    folder, serve = watched
    with serve() as (client, service):

        def fail(images, size):
            raise RuntimeError("out of memory")

        whole = service.model
        service.model = dataclasses.replace(whole, predict=fail)
        (folder / "a.png").write_bytes(png(0.9))
        (first,) = photos_after(client, 0, 1)
        assert first["error"] == "has no score: out of memory"
        assert "a.png has no score: out of memory" in capsys.readouterr().err
        service.model = whole
        (folder / "b.png").write_bytes(png(0.9))
        (second,) = photos_after(client, first["id"], 1)
        assert second["is_anomalous"]


class _Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.heard.append((dict(self.headers), body))
        self.send_response(503 if len(self.server.heard) <= self.server.deaf else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = http.server.HTTPServer(("127.0.0.1", 0), _Receiver)
    server.heard, server.deaf = [], 2
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_notice_is_signed_and_sent_until_it_is_heard(receiver):
    counts = Counts()
    url = f"http://127.0.0.1:{receiver.server_port}/"
    hook = Webhook(url, SECRET, counts, pauses=(0.01,) * 4)
    hook.send({"score": 0.5})
    hook.send({"score": 0.7})
    wait_for(lambda: len(receiver.heard) == 4)
    hook.close()
    bodies = [json.loads(body)["score"] for _, body in receiver.heard]
    assert bodies == [0.5, 0.5, 0.5, 0.7]
    headers, body = receiver.heard[-1]
    text = headers["X-Diffad-Time"].encode() + b"." + body
    wanted = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
    assert headers["X-Diffad-Signature"] == f"sha256={wanted}"
    assert 'diffad_webhooks_total{end="delivered"} 2.0' in counts.text().decode()


def test_a_notice_that_nobody_hears_is_said_to_be_lost(receiver, capsys):
    receiver.deaf = 99
    counts = Counts()
    hook = Webhook(f"http://127.0.0.1:{receiver.server_port}/", SECRET, counts, pauses=(0.01,))
    hook.send({"score": 0.5})
    hook.close()
    assert "is lost" in capsys.readouterr().err
    assert 'end="lost"} 1.0' in counts.text().decode()


def test_a_receiver_that_speaks_no_http_costs_its_own_notice_alone():
    counts = Counts()
    with socket.create_server(("127.0.0.1", 0)) as mail:
        mail.settimeout(10)
        hook = Webhook(f"http://127.0.0.1:{mail.getsockname()[1]}/", SECRET, counts, pauses=())
        for _ in range(2):
            hook.send({"score": 0.5})
            with mail.accept()[0] as connection:
                connection.recv(2**16)
                connection.sendall(b"220 mail\r\n")
    hook.close()
    assert 'end="lost"} 2.0' in counts.text().decode()


@pytest.mark.parametrize(
    "url, secret",
    [
        ("file:///etc", SECRET),
        ("http://a", "short"),
        ("http://a:port/", SECRET),
        ("http://[::1/", SECRET),
    ],
)
def test_a_webhook_that_cannot_be_used_is_refused_at_the_start(url, secret):
    with pytest.raises(ConfigError):
        Webhook(url, secret, Counts())
