"""Files and networks against PyTorch: its own loader and saver, and the published module trees."""

import collections
import functools

import flax.traverse_util
import jax
import numpy as np
import pytest
from parity_cases import TOLERANCE, formula_normal, formula_uniform, formula_weight, relative_error

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")

import torch_published  # noqa: E402  (imports torch)

from diffad_jax.convert import names, torch_file, translate  # noqa: E402
from diffad_jax.models.autoencoder import Autoencoder  # noqa: E402
from diffad_jax.models.discriminator import Discriminator  # noqa: E402
from diffad_jax.models.segmenter import Segmenter  # noqa: E402
from diffad_jax.models.unet import UNet  # noqa: E402

BASE = torch.arange(24.0).reshape(2, 3, 4)
TENSORS = {
    "base": BASE,
    "view": BASE.transpose(0, 2)[1:],  # of the same storage, with an offset
    "half": BASE.half(),
    "bfloat16": BASE.bfloat16(),
    "double": BASE.double(),
    "scalar": torch.tensor(3),
    "parameter": torch.nn.Parameter(BASE),
    "empty": torch.zeros(0, 3),
    "bool": BASE > 3,
    "int32": torch.arange(3, dtype=torch.int32),
}


def as_numpy(tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_what_pytorch_saves_is_read(tmp_path, bare, legacy):
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = network.state_dict()  # an OrderedDict with attributes
    state.update(TENSORS)
    optimizer = torch.optim.Adam(network.parameters()).state_dict()
    whole = {
        "state_dict": state, "epoch": 3, "optimizer_states": [optimizer],
        "callbacks": {torch.nn.Linear: {"best_model_score": torch.tensor(1.0)}},
    }  # fmt: skip
    torch.save(
        state if bare else whole, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy
    )
    found = torch_file.read(tmp_path / "a.ckpt")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(found[name].astype(np.float64), as_numpy(tensor))


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("mmap", [False, True])
def test_pytorch_loads_what_is_written(tmp_path, bare, mmap):
    torch.save(TENSORS, tmp_path / "a")
    tensors = torch_file.read(tmp_path / "a")
    torch_file.write(tmp_path / "b", tensors, bare=bare)
    loaded = torch.load(tmp_path / "b", weights_only=True, mmap=mmap)
    loaded = loaded if bare else loaded["state_dict"]
    assert type(loaded) is collections.OrderedDict and list(loaded) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor.detach())


IMAGE = formula_uniform("image", (2, 32, 32, 3))
STACKED = formula_uniform("stacked", (1, 32, 32, 9))
LATENTS = (formula_normal("latents", (2, 8, 8, 8)), np.array([7, 901], np.int32))
AUTOENCODER = Autoencoder(channels=16, multipliers=(1, 2, 2), num_res_blocks=1)
UNETS = [
    UNet(16, multipliers, blocks, attention, head_channels=8)
    for multipliers, blocks, attention in (((1, 2), 1, (2,)), ((1, 2, 2), 2, (1, 2, 4)))
]
NETWORKS = {
    "autoencoder": (
        AUTOENCODER, names.autoencoder, torch_published.AutoencoderKL(AUTOENCODER), (IMAGE,), {},
    ),
    **{
        f"denoiser {i}": (unet, names.denoiser, torch_published.UNetModel(unet), LATENTS, {})
        for i, unet in enumerate(UNETS)
    },
    "segmenter": (
        Segmenter(channels=4), names.segmenter, torch_published.DiscriminativeSubNetwork(4),
        (STACKED,), {"train": False},
    ),
    "discriminator": (
        Discriminator(channels=8), names.discriminator, torch_published.NLayerDiscriminator(8),
        (IMAGE,), {"train": False},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_network_with_our_weights_gives_our_result(name, tmp_path):
    module, list_names, network, inputs, arguments = NETWORKS[name]
    pairs = list_names(module)
    variables = flax.traverse_util.unflatten_dict(
        {pair.path: formula_weight(pair.path, pair.shape) for pair in pairs}
    )
    torch_file.write(tmp_path / "a", translate.to_theirs(variables, pairs), bare=True)
    missing, unexpected = network.load_state_dict(torch.load(tmp_path / "a"), strict=False)
    assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)

    def to_torch(x):  # images as BGR
        flipped = x.reshape(*x.shape[:-1], -1, 3)[..., ::-1] if x.shape[-1] in (3, 9) else x
        x = np.ascontiguousarray(flipped.reshape(x.shape))
        return torch.from_numpy(x if x.ndim == 1 else x.transpose(0, 3, 1, 2))

    with torch.no_grad():
        theirs = network.eval()(*map(to_torch, inputs)).numpy().transpose(0, 2, 3, 1)
    ours = jax.jit(functools.partial(module.apply, **arguments))(variables, *inputs)
    if name == "autoencoder":
        theirs = theirs[..., ::-1]
    assert relative_error(ours, theirs) <= TOLERANCE
