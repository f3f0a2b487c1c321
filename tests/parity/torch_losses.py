"""Each stage's loss in PyTorch, written from the description of the published recipe.

Networks (see ``torch_reference``), images (NCHW in [0, 1]) and random draws are given; a draw's
dtype is that of the arithmetic. ``scale`` multiplies latents.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

TIMESTEPS = 1000


def copy(model: nn.Module, image: torch.Tensor, noise: torch.Tensor):
    """D(z), z = mean + deviation * noise, and the mean over the batch of its KL divergence."""
    mean, logvar = model.encode(image).chunk(2, dim=1)
    kl = 0.5 * (mean**2 + logvar.exp() - 1.0 - logvar).sum() / len(image)
    return model.decode(mean + (0.5 * logvar).exp() * noise), kl


def likeness(c, perceptual: nn.Module | None, image: torch.Tensor, made: torch.Tensor):
    """L1 and the perceptual distance, which is added to every value of the image before the sum."""
    distance = (image - made).abs()
    if perceptual:
        distance = distance + c.perceptual_weight * perceptual(made, image).view(-1, 1, 1, 1)
    return distance.sum() / len(image)


def denoising(
    config, encoder: nn.Module, model: nn.Module, scale: float, image, augmented, mask, draws
):
    """Of LDM's p_losses with a noisy condition, where the mask [b, 1, h, w] in {0, 1} counts more;
    ``draws`` are those of ``stage_2_draws``.
    """
    posterior, t, noise, s, condition_noise = draws
    with torch.no_grad():
        mean, logvar = encoder.encode(image).chunk(2, dim=1)
        z = scale * (mean + (0.5 * logvar).exp() * posterior)
        condition = scale * encoder.encode(augmented).chunk(2, dim=1)[0]
    target = noise
    if config.diffusion.prediction == "v":
        signal, sigma = _levels(t, noise)
        target = signal * noise - sigma * z
    inputs = [_noisy(z, t, noise), _noisy(condition, s, condition_noise)]
    error = (model(torch.cat(inputs, dim=1), t) - target) ** 2
    anomalous = F.adaptive_avg_pool2d(mask.to(error), error.shape[2:])
    return (error * (1.0 + (config.diffusion.anomaly_weight - 1.0) * anomalous)).mean()


def segmentation(config, autoencoder, denoiser, model, scale: float, image, mask, noise):
    """Of DRAEM: the focal loss; ``mask`` [b, h, w] int64 in {0, 1}."""
    with torch.no_grad():
        repaired = _reconstruct(config, autoencoder, denoiser, scale, image, noise)
    if config.segmentation.input == "differences":
        repaired, image = [4.0 * (x - image) for x in repaired], 2.0 * image - 1.0
    return _focal(
        model(torch.cat([*repaired, image], dim=1)), mask, config.segmentation.focal_gamma
    )


def _reconstruct(config, autoencoder, denoiser, scale: float, image, z) -> list[torch.Tensor]:
    """x_r and x_inter, from the noise z by DDIM."""
    c = config.reconstruction
    condition = scale * autoencoder.encode(image).chunk(2, dim=1)[0]
    visited = _visited(c.training_steps, c.spacing)
    for t, after in zip(visited, [*visited[1:], 0], strict=True):
        output = denoiser(torch.cat([z, condition], dim=1), z.new_full((len(z),), t).long())
        signal, sigma = (float(x) for x in _roots(t))
        noise = output
        if config.diffusion.prediction == "v":
            noise = signal * output + sigma * z
        clean = (z - sigma * noise) / signal
        signal, sigma = (float(x) for x in _roots(after))
        z = signal * clean + sigma * noise
    (weight,) = c.interpolation
    mixed = weight * condition + (1.0 - weight) * z
    return [autoencoder.decode(x / scale).clamp(0.0, 1.0) for x in (z, mixed)]


def _visited(num_steps: int, spacing: str) -> list[int]:
    """``leading``: range(0, T, T // S) + 1, as published; ``trailing``: from T - 1 down."""
    if spacing == "leading":
        return [t + 1 for t in range(0, TIMESTEPS, TIMESTEPS // num_steps)][::-1]
    return [round(TIMESTEPS * i / num_steps) - 1 for i in range(num_steps, 0, -1)]


def _focal(logits: torch.Tensor, label: torch.Tensor, gamma: float) -> torch.Tensor:
    one_hot = F.one_hot(label, 2).movedim(-1, 1).to(logits).clamp(1e-5, 1.0 - 1e-5)
    p_true = (one_hot * logits.softmax(1)).sum(1) + 1e-5
    return -((1.0 - p_true) ** gamma * p_true.log()).mean()


def move_average(average: nn.Module, model: nn.Module, updates: int, decay: float) -> None:
    """LitEma: the decay is min(decay, (1 + n) / (10 + n))."""
    kept = min(decay, (1 + updates) / (10 + updates))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - kept)


def _noisy(z: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    signal, sigma = _levels(t, noise)
    return signal * z + sigma * noise


def _levels(t: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(x[t].view(-1, 1, 1, 1) for x in _tables(like.dtype, like.device))


def _roots(t: int) -> tuple[torch.Tensor, torch.Tensor]:
    signal, sigma = _tables(torch.float64, torch.device("cpu"))
    return signal[t], sigma[t]


@functools.cache
def _tables(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The roots of alpha_bar and of 1 - alpha_bar by timestep."""
    beta = np.linspace(0.0015**0.5, 0.02**0.5, TIMESTEPS) ** 2
    alpha_bar = np.cumprod(1.0 - beta)
    roots = np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar)
    return tuple(torch.from_numpy(x).to(device, dtype) for x in roots)
