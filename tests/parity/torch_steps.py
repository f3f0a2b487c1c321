"""Each stage's training in PyTorch, written from the description of the published recipe.

The autoencoder's: LDM's LPIPSWithDiscriminator with two optimisers in turn on every batch. The
denoiser's: LDM's p_losses with a noisy condition, and LitEma. The segmenter's: DRAEM's. What they
minimise is in ``torch_losses``.
"""

import copy
from collections.abc import Callable

import flax
import numpy as np
import steps_cases
import torch
import torch.nn.functional as F
import torch_losses
import torch_reference
import torch_run
from steps_cases import NUM_STEPS, StepsCase
from torch import nn

from diffad_jax.methods.diffad import autoencoder, latent_diffusion, networks

DTYPE = torch.float64


def run(case: StepsCase) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What ``StepsCase.run`` gives, by PyTorch in float64."""
    train: Callable = _segmenter
    if case.stage is autoencoder:
        train = _autoencoder
    elif case.stage is latent_diffusion:
        train = _denoiser
    history, trained = train(case)
    metrics = {
        name: np.array([float(torch.as_tensor(m[name]).detach()) for m in history])
        for name in history[0]
    }
    return metrics, _by_flax_path(case, trained)


def _autoencoder(case: StepsCase):
    c, state = case.config.autoencoder, case.first_state()
    model = _network(networks.autoencoder(case.config), state.params["autoencoder"])
    judge = _network(
        networks.discriminator(case.config), state.params["discriminator"], state.variables
    ).train()
    perceptual = None
    if c.perceptual != "none":
        perceptual = _network(steps_cases.PERCEPTUAL, case.frozen["perceptual"])
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=c.learning_rate, betas=c.betas)
        for network in (model, judge)
    ]
    last_kernel = model["decoder"]["conv_out"].weight
    history = []
    for step in range(NUM_STEPS):
        image = _pixels(case.batch(step)["image"])
        noise, noise_again = (_tensor(x) for x in steps_cases.stage_1_draws(case, step))
        started = float(step // c.accumulation >= c.adversarial_start)
        now = (step + 1) % c.accumulation == 0

        made, kl = torch_losses.copy(model, image, noise)
        likeness = torch_losses.likeness(c, perceptual, image, made)
        generator = -judge(made).mean()
        slopes = [
            torch.autograd.grad(term, last_kernel, retain_graph=True)[0].norm()
            for term in (likeness, generator)
        ]
        adaptive = (slopes[0] / (slopes[1] + 1e-4)).clamp(0.0, 1e4).detach()
        loss = likeness + c.kl_weight * kl
        adversarial = started * c.adversarial_weight * adaptive * generator
        _backward(model, (loss + adversarial) / c.accumulation, optimizers[0], now)

        with torch.no_grad():
            made, _ = torch_losses.copy(model, image, noise_again)
        hinge = F.relu(1.0 - judge(image)).mean() + F.relu(1.0 + judge(made)).mean()
        hinge = started * 0.5 * hinge
        _backward(judge, hinge / c.accumulation, optimizers[1], now)
        history.append(
            {
                "loss": loss,
                "kl": kl / noise[0].numel(),
                "generator": started * generator,
                "adaptive_weight": started * adaptive,
                "discriminator": hinge,
            }
        )
    return history, {"params/autoencoder": model, "params/discriminator": judge}


def _backward(
    network: nn.Module, loss: torch.Tensor, optimizer: torch.optim.Optimizer, now: bool
) -> None:
    """Adds to the gradients of this network alone; steps when enough batches are in them."""
    loss.backward(inputs=list(network.parameters()))
    if now:
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def _denoiser(case: StepsCase):
    c, params = case.config.diffusion, case.first_state().params
    encoder = _network(networks.autoencoder(case.config), case.frozen["autoencoder"]["params"])
    model = _network(networks.denoiser(case.config), params)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay
    )
    history = []
    for step in range(NUM_STEPS):
        batch = case.batch(step)
        images = [_pixels(batch[name]) for name in ("image", "augmented_image")]
        images.append(_tensor(batch["anomaly_mask"]))
        draws = [_tensor(x) for x in steps_cases.stage_2_draws(case, step)]
        loss = torch_losses.denoising(case.config, encoder, model, c.latent_scale, *images, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch_losses.move_average(average, model, step + 1, c.ema_decay)
        history.append({"loss": loss})
    return history, {"params": model, "ema_params": average}


def _segmenter(case: StepsCase):
    c, state = case.config.segmentation, case.first_state()
    scale = case.config.diffusion.latent_scale
    autoencoder, denoiser = (
        _network(network, case.frozen[name]["params"])
        for name, network in (
            ("autoencoder", networks.autoencoder(case.config)),
            ("denoiser", networks.denoiser(case.config)),
        )
    )
    model = _network(networks.segmenter(case.config), state.params, state.variables).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=c.learning_rate)
    ends = [int(share * NUM_STEPS) for share in (0.8, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, ends, gamma=0.2)
    history = []
    for step in range(NUM_STEPS):
        batch = case.batch(step)
        image = _pixels(batch["augmented_image"])
        mask = torch.from_numpy(batch["anomaly_mask"][..., 0]).long()
        noise = _tensor(steps_cases.stage_3_draws(case, step))
        loss = torch_losses.segmentation(
            case.config, autoencoder, denoiser, model, scale, image, mask, noise
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        history.append({"loss": loss})
    return history, {"params": model}


def _network(module, params: dict, variables: dict | None = None) -> nn.Module:
    network = torch_reference.build(module)
    weights = {"params": params, **(variables or {})}
    torch_reference.load(network, flax.traverse_util.flatten_dict(weights))
    return network.to(DTYPE)


def _pixels(image: np.ndarray) -> torch.Tensor:
    return torch_run.to_torch(image, DTYPE).detach() / 255.0


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A drawn latent, or drawn timesteps."""
    if array.ndim == 4:
        return torch_run.to_torch(array, DTYPE).detach()
    return torch.from_numpy(np.array(array)).long()


def _by_flax_path(case: StepsCase, trained: dict[str, nn.Module]) -> dict[str, np.ndarray]:
    """The parameters under the names and in the order of axes that ``StepsCase.run`` gives."""
    found = {}
    for path, ours in steps_cases.parameters(case.first_state()).items():
        prefix = next(prefix for prefix in trained if path.startswith(f"{prefix}/"))
        names = path.removeprefix(f"{prefix}/").split("/")
        key, _ = torch_reference.to_torch(tuple(names), ours)
        value = trained[prefix].get_parameter(key).detach().numpy()
        found[path] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    return found
