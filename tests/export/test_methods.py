"""Every method in every format: the scores, maps and verdicts of ``predict``."""

import functools
import os
import sys

import flax.linen
import flax.traverse_util
import jax
import method_cases
import ml_collections
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from PIL import Image

from diffad_jax.export import (
    artifact,
    card,
    exporter,
    onnx_builder,
    onnx_jaxpr,
    registry,
    run,
)
from diffad_jax.export import onnx as onnx_format
from diffad_jax.export.errors import ExportError
from diffad_jax.inference import calibration, detector
from diffad_jax.models import efficientnet_lite

FORMATS = [name for name, written in registry.FORMATS.items() if written.load and written.exact]
OUTPUTS = ("score", "anomaly_map")
METHODS = sorted(method_cases.CONFIGS)


@functools.cache
def predicted(method: str) -> dict[str, np.ndarray]:
    model = method_cases.model(method)
    pixels = method_cases.photos(model.config.image_size)
    run = jax.jit(model.__call__)
    return jax.device_get(run(model.weights, pixels, np.uint32(model.seed)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function: (method, format) -> its folder, written once."""

    @functools.cache
    def folder(method: str, name: str):
        output = tmp_path_factory.mktemp(f"{method}_{name}")
        method_cases.export(method_cases.model(method), name, output)
        return output

    return folder


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("method", METHODS)
def test_scores_maps_and_verdicts_are_those_of_predict(method, name, exported):
    if (method, name) == ("riad", "onnx_seeded"):
        pytest.skip("refused, see below")
    folder, wanted = exported(method, name), predicted(method)
    assert np.ptp(wanted["score"]) > 1e-4 * wanted["score"].max()
    model_card = artifact.read_card(folder)
    detect = registry.load(folder, model_card)
    pixels = method_cases.photos(method_cases.model(method).config.image_size)
    for count in (1, len(pixels)):  # any number of photos
        found = detect(pixels[:count], model_card["seed"])
        for key, values in wanted.items():
            scale = np.abs(values[:count]).max()
            np.testing.assert_allclose(found[key], values[:count], rtol=1e-4, atol=1e-4 * scale)
            assert found[key].dtype == np.float32
    middle = np.sort(wanted["score"])[:-1] + np.diff(np.sort(wanted["score"])) / 2
    for threshold in middle:
        np.testing.assert_array_equal(found["score"] > threshold, wanted["score"] > threshold)


def by_onnxruntime(path, names, feeds):
    return onnxruntime.InferenceSession(path).run(names, feeds)


def by_reference(path, names, feeds):
    return ReferenceEvaluator(str(path)).run(names, feeds)


def by_openvino(path, names, feeds):
    sys.modules.setdefault("openvino_telemetry", None)  # else the import forks, to call home
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.Core().compile_model(str(path), "CPU", exact)(feeds)
    return [found[name] for name in names]


RUNTIMES = [by_onnxruntime, by_reference, by_openvino]


@pytest.mark.parametrize("run", RUNTIMES)
@pytest.mark.parametrize("method", METHODS)
def test_onnx_in_every_runtime(method, run, exported):
    """Fewer of its operations are the same in all of them than one would think."""
    size = method_cases.model(method).config.image_size
    pixels, wanted = method_cases.photos(size), predicted(method)
    path = exported(method, "onnx") / "model.onnx"
    found = run(path, OUTPUTS, {"image": pixels[-2:]})
    for name, values in zip(OUTPUTS, found, strict=True):
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(values, wanted[name][-2:], rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("run", RUNTIMES)
@pytest.mark.parametrize("seed", [0, 7, 2**31, 4_000_000_005])
def test_random_numbers_are_those_of_jax_in_every_runtime(seed, run, tmp_path):
    path = drawing_graph(tmp_path, seed=None)
    *bits, normal = run(path, DRAWN, {"seed": np.array(seed, np.uint32)})
    *wanted, expected = draw(np.uint32(seed))
    for ours, theirs in zip(bits, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(normal, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("run", RUNTIMES)
def test_numbers_of_a_seed_inside_are_jaxs_to_the_last_bit(run, tmp_path):
    found = run(drawing_graph(tmp_path, seed=4_000_000_005), DRAWN, {})
    for ours, theirs in zip(found, draw(np.uint32(4_000_000_005)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


DRAWN = ("t", "b", "n")


def draw(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    t = jax.random.randint(keys[1], (1,), 3, 900)
    bits = jax.random.bits(keys[0], (100,)) >> 9  # positive in any runtime's integers
    return t, bits, jax.random.normal(keys[2], (100,))


def drawing_graph(folder, seed):
    """An ONNX file of what ``draw`` draws; of a seed inside, or of its input (None)."""
    builder = onnx_builder.Builder("image", None)
    given = "seed" if seed is None else np.array(seed, np.uint32)
    closed = jax.make_jaxpr(draw)(jax.ShapeDtypeStruct((), np.uint32))
    for value, name in zip(onnx_jaxpr.add(builder, closed, [given]), DRAWN, strict=True):
        builder.nodes.append(onnx.helper.make_node("Identity", [builder.named(value)], [name]))
    nodes, constants = builder.used(DRAWN)
    types = {"t": onnx.TensorProto.INT32, "b": onnx.TensorProto.UINT32, "n": 1}
    outputs = [onnx.helper.make_tensor_value_info(n, t, None) for n, t in types.items()]
    inputs = [onnx.helper.make_tensor_value_info("seed", onnx.TensorProto.UINT32, [])]
    taken = inputs if seed is None else []
    graph = onnx.helper.make_graph(nodes, "draw", taken, outputs, constants)
    opset = [onnx.helper.make_opsetid("", onnx_format.OPSET)]
    made = onnx.helper.make_model(graph, opset_imports=opset, ir_version=onnx_format.IR_VERSION)
    onnx.save(made, folder / "draw.onnx")
    return folder / "draw.onnx"


def test_a_seeded_onnx_graph_of_riads_squares_is_refused(tmp_path):
    with pytest.raises(ExportError, match="does not know JAX's operation 'random_fold_in'"):
        method_cases.export(method_cases.model("riad"), "onnx_seeded", tmp_path)


@pytest.mark.parametrize("name", ["onnx", "onnx_seeded"])
def test_diffads_choices(name, tmp_path):
    """Several interpolations, a noisy condition; another seed draws otherwise."""
    changes = {"reconstruction.condition": "noisy", "reconstruction.interpolation": (0.3, 0.7)}
    model = method_cases.model("diffad", **changes)
    method_cases.export(model, name, tmp_path)
    detect = registry.load(tmp_path, artifact.read_card(tmp_path))
    predict, pixels = jax.jit(model.__call__), method_cases.photos(model.config.image_size, 2)
    for seed in (model.seed, 4_000_000_005) if name == "onnx_seeded" else (model.seed,):
        wanted, found = predict(model.weights, pixels, np.uint32(seed)), detect(pixels, seed)
        for key, values in wanted.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "layers", "size", "formats"),
    [
        ("efficientnet_lite0", ("stage2", "stage3"), 40, ("onnx",)),
        ("inception_v3", ("conv_4", "mixed"), 80, ("onnx",)),
        ("dinov2_vits14_reg", ("block1",), (28, 42), ("onnx", "saved_model")),
    ],
)
def test_other_backbones(name, layers, size, formats, tmp_path):
    changes = {"backbone.name": name, "backbone.layers": layers, "image_size": size}
    model, pixels = method_cases.model("padim", **changes), method_cases.photos(size, 2)
    wanted = jax.jit(model.__call__)(model.weights, pixels, np.uint32(model.seed))
    for written in formats:
        folder = tmp_path / written
        folder.mkdir()
        method_cases.export(model, written, folder)
        found = registry.load(folder, artifact.read_card(folder))(pixels, model.seed)
        for key, values in wanted.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-4, err_msg=written)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_convolutions_in_8_bits(name, exported, tmp_path):
    model = method_cases.model("draem")
    pixels = method_cases.photos(model.config.image_size)
    registry.FORMATS[name].write_int8(model, tmp_path, pixels[:3])
    files = {"files": ["model.onnx", "model.xml", "model.bin"], "inputs": {}}
    found = registry.FORMATS[name].load(tmp_path, files)(pixels, model.seed)
    graph = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert {"onnx": b"QuantizeLinear", "openvino": b"FakeQuantize"}[name] in graph
    for key, wanted in predicted("draem").items():
        scale = np.abs(wanted).max()
        assert 1e-5 * scale < np.abs(found[key] - wanted).max() < 0.2 * scale


def test_a_depthwise_convolution_is_one_node():
    """On CPUs JAX has nine products and sums in its place."""
    net = efficientnet_lite.Depthwise(4, 3, 2, np.float32)
    photo = np.zeros((1, 8, 8, 4), np.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), photo)
    known = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), params)
    with flax.linen.intercept_methods(onnx_format._whole):
        closed = jax.make_jaxpr(net.apply)(params, photo)
    builder = onnx_builder.Builder("image", None)
    found = onnx_jaxpr.add(builder, closed, [*jax.tree.leaves(known), "image"])
    kinds = [node.op_type for node in builder.used(found)[0]]
    assert kinds == ["Transpose", "Conv", "Transpose"]


@pytest.mark.parametrize("method", METHODS)
def test_the_exporter_and_its_card_take_every_method(method, tmp_path, monkeypatch, capsys):
    """From the work directory's weights to the verdicts of ``run.py``'s command."""
    model = method_cases.model(method)
    weights = flax.traverse_util.unflatten_dict(dict(model.weights), sep="/")
    trained = detector.Detector(model.config, weights)
    scores, names = (1.0,) * 7, tuple("abcdefg")
    chosen = calibration.Calibration(
        1.5, (0.0, 3.0), 0.05, 7, 1, held_out_scores=scores, held_out_names=names
    )
    monkeypatch.setattr(detector.Detector, "from_workdir", lambda *_: trained)
    monkeypatch.setattr(exporter, "load_or_choose", lambda *_, **__: chosen)
    monkeypatch.setattr(card, "_photos", lambda model: "drawn ones")
    config = ml_collections.ConfigDict(model.config)
    config.categories = ("tiles",)
    exporter.export(config, tmp_path, tmp_path / "out", "onnx")
    folder, pixels = tmp_path / "out" / "tiles", method_cases.photos(model.config.image_size)
    for i, photo in enumerate(pixels):
        Image.fromarray(photo).save(tmp_path / f"{i}.png")
    monkeypatch.setattr("sys.argv", ["run.py", str(tmp_path)])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run.main(folder, registry.FORMATS["onnx"].load)
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    scores = predicted(method)["score"]
    np.testing.assert_allclose([float(row[1]) for row in rows], scores, rtol=1e-4)
    assert [row[3] == "anomalous" for row in rows] == (scores > 1.5).tolist()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux's")
def test_onnxruntime_gets_no_more_threads_than_cores(exported, monkeypatch):
    """Those without a core would spin, and slow the others down."""
    seen, session = [], onnxruntime.InferenceSession
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8})
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda graph, options, **how: seen.append(options) or session(graph, options, **how),
    )
    folder = exported("draem", "onnx")
    registry.load(folder, artifact.read_card(folder))
    assert seen[0].intra_op_num_threads == 3
