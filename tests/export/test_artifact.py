"""Exported folders that are damaged or hostile."""

import hashlib
import json
import os

import exported_folder
import numpy as np
import pytest
from exported_folder import CARD, WEIGHTS

from diffad_jax.export import artifact, registry
from diffad_jax.runtime import checksums


def test_a_sound_folder_is_read(tmp_path):
    folder = exported_folder.write(tmp_path)
    assert artifact.read_card(folder) == CARD
    found = artifact.read_weights(folder / "weights.safetensors")
    assert found.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


@pytest.mark.parametrize(
    "card",
    [b"{", b"[]", b"3", b"null", b"\xff", b"[" * 100_000, b'{"files": ' + b"9" * 5000 + b"}"],
    ids=lambda card: repr(card[:9]),
)
def test_a_card_that_is_none(tmp_path, card):
    with pytest.raises(artifact.ArtifactError, match="model.json"):
        artifact.read_card(exported_folder.write(tmp_path, card))


@pytest.mark.parametrize("name", CARD)
@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "x", -1, float("nan"), True, 10**400])
def test_a_card_with_an_impossible_field(tmp_path, name, value):
    nullable = ("threshold", "pixel_threshold")
    texts, objects = ("format", "category", "method", "weights"), ("inputs", "config")
    if name in nullable and value is None or name in texts and value == "x":
        return  # the model has none; the registry refuses it
    if name in objects and value == {"a": 1}:
        return
    folder = exported_folder.write(tmp_path, CARD | {name: value})
    with pytest.raises(artifact.ArtifactError, match=f"model.json: {name} is missing or imp"):
        artifact.read_card(folder)


@pytest.mark.parametrize("name", ["/etc/hostname", "../outside", "a/../../outside", "..", "C:\\x"])
def test_names_that_leave_the_folder(tmp_path, name):
    folder, content = exported_folder.write(tmp_path / "model"), b"secret"
    (tmp_path / "outside").write_bytes(content)
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    with pytest.raises(artifact.ArtifactError, match="list of checksums is damaged"):
        artifact.read_card(folder)
    assert checksums.fault(folder, {name: hashlib.sha256(content).hexdigest()})


@pytest.mark.parametrize(
    "sums",
    [b"", b"\n", b"\xff\xfe", b"[]", b"0" * 64, b"x" * 64 + b"  model.json\n",
     b"0" * 64 + b"  " + b"n" * 5000 + b"\n", b"0" * 64 + b"  a\0b\n"],
    ids=lambda sums: repr(sums[:9]),
)  # fmt: skip
def test_lists_of_checksums_that_are_none(tmp_path, sums):
    folder = exported_folder.write(tmp_path)
    (folder / "SHA256SUMS").write_bytes(sums)
    with pytest.raises(artifact.ArtifactError, match="SHA256SUMS"):
        artifact.read_card(folder)


def test_a_list_of_ever_more_files(tmp_path):
    folder = exported_folder.write(tmp_path)
    (folder / "SHA256SUMS").write_bytes(b"".join(b"%064d  %d\n" % (0, i) for i in range(2**17)))
    with pytest.raises(artifact.ArtifactError, match="lists over 65536 files"):
        artifact.read_card(folder)


@pytest.mark.parametrize("name", ["SHA256SUMS", "model.json", "model.stablehlo"])
def test_special_files_are_not_opened(tmp_path, name):
    folder = exported_folder.write(tmp_path)
    (folder / name).unlink()
    os.mkfifo(folder / name)  # opening it would wait for ever
    with pytest.raises(artifact.ArtifactError):
        artifact.read_card(folder)


@pytest.mark.parametrize("name", ["stablehlo", "saved_model", "onnx"])
def test_a_graph_that_no_list_names_is_not_loaded(tmp_path, name):
    pytest.importorskip({"saved_model": "tensorflow", "onnx": "onnxruntime"}.get(name, "jax"))
    folder = exported_folder.write(tmp_path, CARD | {"format": name, "files": []})
    for path in ("model.onnx", "1/saved_model.pb"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(b"graph")
    with pytest.raises(artifact.ArtifactError, match="does not list (model|1/saved_model).*copy"):
        registry.load(folder, artifact.read_card(folder))


def test_what_the_runtime_refuses_is_an_artifact_error(tmp_path):
    folder = exported_folder.write(tmp_path)
    with pytest.raises(artifact.ArtifactError, match="copy the exported folder again"):
        registry.load(folder, artifact.read_card(folder))


def header(**changes) -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    text = json.dumps({"a": entry}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        header(dtype="BF16"),
        header(dtype="F16"),
        header(shape=[2**40, 2**40]),
        header(shape=[-2]),
        header(shape=[True, 2]),
        header(shape="2"),
        header(data_offsets=[-8, 0]),
        header(data_offsets=[8, 16]),
        header(data_offsets=[0]),
        header(shape=[0], data_offsets=[0, 0]),
        header() + b"more",
        header()[:-1],
    ],
)
def test_weights_that_do_not_fit_their_file(tmp_path, data):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(artifact.ArtifactError, match="weights.safetensors is damaged"):
        artifact.read_weights(path)


def test_mutants(tmp_path):
    refused, read = exported_folder.fuzz(tmp_path, rounds=300, seed=0)
    assert refused > 200 and read > 5


def test_checksums_of_a_folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"1")
    sums = checksums.of_folder(tmp_path)
    assert sums == {"b/c": hashlib.sha256(b"1").hexdigest()}
    assert checksums.fault(tmp_path, sums) == ""
    for damaged in ({}, [], None, "x", {"b/c": 3}, {3: "0" * 64}, {"b/c": "0" * 63}):
        assert "damaged" in checksums.fault(tmp_path, damaged)
    assert checksums.fault(tmp_path, {"b/d": "0" * 64}) == "b/d is missing"
    assert checksums.fault(tmp_path, {"b/c": "0" * 64}) == "b/c has changed since it was written"
