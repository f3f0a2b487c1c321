"""Stage 1's step: its gradient, its adversary's start, accumulation, and every setting's effect."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from conftest import TINY

from configs import mvtec_small
from diffad_jax.methods import losses, train_state
from diffad_jax.methods.diffad import autoencoder, brightness, fields, networks
from diffad_jax.training import loop

# Of the section ``autoencoder``, besides TINY; KL and rate are large enough for few steps to show.
BASE = {
    "channels": 4,
    "exposure": 0.0,
    "num_res_blocks": 0,
    "linear_skip": False,
    "kl_weight": 0.01,
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "decay": "constant",
    "adversarial_start": 0,
    "discriminator_channels": 4,
    "discriminator_layers": 1,
}


class Layer(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        return nn.Conv(self.features, (3, 3), name="conv_out")(x)


class Copier(nn.Module):
    """Stands for the autoencoder: it compiles in a tenth of the time."""

    def setup(self):
        self.encoder, self.decoder = Layer(4), Layer(3)

    def encode(self, image, *, deterministic=True):
        return jnp.split(self.encoder(image), 2, axis=-1)

    def decode(self, z, *, deterministic=True):
        return self.decoder(nn.swish(z))

    def __call__(self, image):
        return self.decode(self.encode(image)[0])


class Distance(nn.Module):
    """Stands for the perceptual network."""

    @nn.compact
    def __call__(self, image, reference):
        return jnp.mean(Layer(4)(image - reference) ** 2, axis=(1, 2, 3))


COPIER, DISTANCE = Copier(), Distance()


@pytest.fixture
def stand_ins(monkeypatch):
    monkeypatch.setattr(networks, "autoencoder", lambda config: COPIER)
    monkeypatch.setattr(networks, "perceptual", lambda config: DISTANCE)


@pytest.fixture
def plain_descent(monkeypatch):
    """Steps of size one along the gradient, so that a step shows it."""
    # By a schedule, which counts updates.
    descent = optax.scale_by_schedule(lambda count: -1.0)
    monkeypatch.setattr(autoencoder, "make_optimizer", lambda config: descent)


def stage_config(**changes) -> ml_collections.FrozenConfigDict:
    config = mvtec_small.get_config("tiles")
    for field, value in TINY.items():
        section, _, name = field.rpartition(".")
        (config[section] if section else config)[name] = value
    config.autoencoder.update(BASE | changes)
    return ml_collections.FrozenConfigDict(config)


def batch(step: int) -> dict[str, np.ndarray]:
    image, augmented = np.random.default_rng(step).integers(0, 256, (2, 2, 16, 16, 3), np.uint8)
    return {"image": image, "augmented_image": augmented}


def states_after(config, num_steps, frozen=None):
    """The first state, the state after one step, and so on."""
    init = functools.partial(autoencoder.init_state, config)
    states = [jax.jit(init)(jax.random.key(0), {}, batch(0))]
    step_fn = jax.jit(functools.partial(autoencoder.train_step, config=config))
    for step in range(num_steps):
        states.append(step_fn(states[-1], frozen or {}, batch(step))[0])
    return states


def equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def largest(tree) -> float:
    return max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree))


def minus(a, b):
    return jax.tree.map(lambda x, y: x - y, a, b)


def moved(states, network="autoencoder"):
    """The way from the first state to the last."""
    return minus(states[-1].params[network], states[0].params[network])


def perceptual_weights():
    pixels = jnp.zeros((1, 16, 16, 3))
    return {"perceptual": DISTANCE.init(jax.random.key(1), pixels, pixels)["params"]}


def loss_terms(params, state, frozen, config):
    """(likeness, KL, generator) of the first step, from the equations."""
    image = jnp.asarray(batch(0)["image"], jnp.float32) / 255.0
    judge = networks.discriminator(config)
    mean, logvar = COPIER.apply({"params": params}, image, method="encode")
    key = jax.random.split(jax.random.split(train_state.step_key(state))[0], 3)[0]
    z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
    copy = COPIER.apply({"params": params}, z, method="decode")
    distance = DISTANCE.apply({"params": frozen["perceptual"]}, copy, image)
    distance = config.autoencoder.perceptual_weight * distance[:, None, None, None]
    likeness = jnp.sum(jnp.abs(image - copy) + distance) / len(image)
    variables = {"params": state.params["discriminator"], **state.variables}
    logits, _ = judge.apply(variables, copy, train=True, mutable=["batch_stats"])
    return likeness, losses.kl(mean, logvar).mean(), -logits.mean()


@pytest.mark.parametrize(("perceptual_weight", "clipped"), [(0.01, False), (0.7, True)])
def test_the_gradient_is_that_of_the_loss_with_the_adaptive_weight_held(
    perceptual_weight, clipped, stand_ins, plain_descent
):
    frozen = perceptual_weights()
    config = stage_config(
        adversarial_weight=0.5, perceptual="lpips", perceptual_weight=perceptual_weight
    )
    states = states_after(config, 1, frozen)

    def total(params, adaptive):
        likeness, kl, generator = loss_terms(params, states[0], frozen, config)
        return likeness + 0.01 * kl + 0.5 * adaptive * generator

    @jax.jit
    def expected(params):
        likeness, _, generator = (
            jnp.linalg.norm(gradient["decoder"]["conv_out"]["kernel"].ravel())
            for gradient in jacobian(params)
        )
        ratio = likeness / (generator + 1e-4)
        return jax.grad(total)(params, jnp.minimum(ratio, 1e4)), ratio

    def jacobian(params):
        values, pull = jax.vjp(
            lambda p: jnp.stack(loss_terms(p, states[0], frozen, config)), params
        )
        return [pull(row)[0] for row in jnp.eye(len(values))]

    want, ratio = expected(states[0].params["autoencoder"])
    assert (ratio > 1e4) == clipped
    assert largest(jax.tree.map(jnp.add, moved(states), want)) <= 1e-4 * largest(want)


def test_the_perceptual_term_is_off_without_weights_and_scales_with_its_own(
    stand_ins, plain_descent
):
    frozen = perceptual_weights()
    changes = {"adversarial_weight": 0.0, "perceptual": "lpips"}
    off = moved(states_after(stage_config(**changes), 1))
    without_term = moved(states_after(stage_config(**changes | {"perceptual": "none"}), 1))
    single, double = (
        minus(moved(states_after(stage_config(**changes, perceptual_weight=w), 1, frozen)), off)
        for w in (1.0, 2.0)
    )
    assert equal(off, without_term)
    _assert_twice(single, double)


def test_a_discriminator_whose_gradient_alone_breaks_is_noticed(stand_ins, monkeypatch):
    """Otherwise its weights would be lost, and nothing would show it."""

    @jax.custom_vjp
    def breaking(real, fake):
        return real.mean() + fake.mean()

    breaking.defvjp(lambda *x: (breaking(*x), x), lambda x, g: (jnp.nan * x[0], jnp.nan * x[1]))
    monkeypatch.setattr(losses, "hinge_discriminator", breaking)
    config = stage_config(adversarial_weight=0.5)
    state = autoencoder.init_state(config, jax.random.key(0), {}, batch(0))
    step_fn = functools.partial(autoencoder.train_step, config=config)
    after, metrics = jax.jit(loop.skipping_nonfinite(step_fn))(state, {}, batch(0))
    assert metrics["skipped"] == 1.0 and equal(after.params, state.params)


def test_before_its_start_the_adversary_neither_moves_nor_matters(stand_ins):
    states = states_after(stage_config(adversarial_weight=0.5, adversarial_start=2), 3)
    alone = states_after(stage_config(adversarial_weight=0.0), 3)
    for state in states[:3]:
        assert equal(state.params["discriminator"], states[0].params["discriminator"])
        assert equal(state.variables, states[0].variables)  # batch statistics
    assert not equal(states[3].params["discriminator"], states[0].params["discriminator"])
    assert not equal(states[3].variables, states[0].variables)
    # As published, Adam counts the idle steps too.
    assert [int(s.opt_state["discriminator"][0].count) for s in states] == [0, 1, 2, 3]

    apart = [
        largest(minus(ours.params["autoencoder"], theirs.params["autoencoder"]))
        for ours, theirs in zip(states, alone, strict=True)
    ]
    assert max(apart[:3]) <= 1e-6 and apart[3] >= 1e-4


def test_accumulation_moves_every_second_batch_and_the_start_counts_updates(stand_ins):
    config = stage_config(adversarial_weight=0.5, adversarial_start=1, accumulation=2)
    states = states_after(config, 4)
    autoencoders, discriminators = (
        [s.params[name] for s in states] for name in ("autoencoder", "discriminator")
    )
    assert equal(autoencoders[0], autoencoders[1]) and equal(autoencoders[2], autoencoders[3])
    assert not equal(autoencoders[1], autoencoders[2])
    assert not equal(autoencoders[3], autoencoders[4])
    # One update, of two batches, comes before the start.
    assert equal(discriminators[0], discriminators[3])
    assert not equal(discriminators[3], discriminators[4])
    assert equal(states[0].variables, states[2].variables)
    assert not equal(states[2].variables, states[3].variables)


def test_skipped_batches_do_not_bring_the_start_nearer(stand_ins):
    config = stage_config(adversarial_weight=0.5, adversarial_start=1, exposure=0.3)
    step_fn = functools.partial(autoencoder.train_step, config=config)
    step_fn = jax.jit(loop.skipping_nonfinite(step_fn))
    light = {"light": brightness.fit(config, iter([batch(0)["image"]]), {})}
    state = autoencoder.init_state(config, jax.random.key(0), light, batch(0))
    broken = jax.tree.map(lambda x: x * np.float32(np.nan), light)
    discriminators = [state.params["discriminator"]]
    for number, earlier_weights in enumerate((broken, broken, light, light)):
        state, _ = step_fn(state, earlier_weights, batch(number))
        discriminators.append(state.params["discriminator"])
    assert equal(discriminators[0], discriminators[3])  # of three batches one was an update
    assert not equal(discriminators[3], discriminators[4])


def test_accumulated_gradients_are_averaged():
    one, two = jnp.float32(3.0), jnp.float32(-1.0)
    adam = optax.adam(1e-3, 0.5, 0.9)
    want, _ = adam.update((one + two) / 2, adam.init(one))
    optimizer = autoencoder.make_optimizer(stage_config(accumulation=2, betas=(0.5, 0.9)))
    first, state = optimizer.update(one, optimizer.init(one))
    second, _ = optimizer.update(two, state)
    assert first == 0.0
    np.testing.assert_allclose(second, want, rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-3},
        {"warmup_steps": 2},
        {"decay": "cosine"},
        {"decay": "cosine", "steps": 8},
        {"betas": (0.5, 0.9)},
        {"accumulation": 2},
    ],
    ids=str,
)
def test_settings_of_the_optimiser_change_its_path(change):
    def path(**changes):
        optimizer = autoencoder.make_optimizer(stage_config(**changes))
        weight = jnp.float32(0.0)
        state, visited = optimizer.init(weight), []
        for gradient in (1.0, -3.0, 0.5):
            update, state = optimizer.update(jnp.float32(gradient), state)
            visited.append(float(update))
        return visited

    without = {"decay": "cosine"} if "steps" in change else {}
    assert path(**change) != pytest.approx(path(**without), rel=1e-3)


STRUCTURE = {
    "channels": 8,
    "multipliers": (1, 2),
    "num_res_blocks": 2,
    "latent_channels": 3,
    "patch_size": 2,
    "linear_skip": True,
    "discriminator_channels": 8,
    "discriminator_layers": 2,
    "adversarial_weight": 0.0,
}


@pytest.mark.parametrize("field", STRUCTURE)
def test_settings_of_the_networks_change_their_weights(field):
    def shapes(**changes):
        init = functools.partial(autoencoder.init_state, stage_config(**changes))
        params = jax.eval_shape(init, jax.random.key(0), {}, batch(0)).params
        leaves = jax.tree_util.tree_leaves_with_path(params)
        return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}

    before = {"adversarial_weight": 0.5}
    assert shapes(**before | {field: STRUCTURE[field]}) != shapes(**before)


ENCODING = {"dropout": 0.5, "signed": True, "exposure": 0.3, "input": "augmented_image"}


@pytest.mark.parametrize("field", ENCODING)
def test_settings_of_the_encoding_change_it(field):
    def kl(**changes):
        config = stage_config(adversarial_weight=0.0, **changes)
        light = {"light": brightness.fit(config, iter([batch(0)["image"]]), {})}

        @jax.jit  # leaves out what the KL term does not need
        def first(key, batch):
            state = autoencoder.init_state(config, key, light, batch)
            return autoencoder.train_step(state, light, batch, config=config)[1]["kl"]

        return float(first(jax.random.key(0), batch(0)))

    assert kl(**{field: ENCODING[field]}) != pytest.approx(kl(), rel=1e-4)


def test_the_kl_weight_scales_its_term(stand_ins, plain_descent):
    none, single, double = (
        moved(states_after(stage_config(adversarial_weight=0.0, kl_weight=weight), 1))
        for weight in (0.0, 10.0, 20.0)
    )
    _assert_twice(minus(single, none), minus(double, none))


def test_the_adversarial_weight_scales_its_term(stand_ins, plain_descent):
    none, single, double = (
        moved(states_after(stage_config(adversarial_weight=weight), 1))
        for weight in (0.0, 0.5, 1.0)
    )
    _assert_twice(minus(single, none), minus(double, none))


@pytest.mark.parametrize("signed", [False, True])
def test_with_linear_skips_it_begins_as_the_principal_components_of_the_first_batch(signed):
    config = stage_config(linear_skip=True, signed=signed, input="augmented_image")
    params = autoencoder.init_state(config, jax.random.key(0), {}, batch(0)).params["autoencoder"]
    image = batch(0)["augmented_image"] / np.float32(255.0)
    patches = image.reshape(2, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(32, 48)
    centre = patches.mean(axis=0)
    _, _, axes = np.linalg.svd(patches - centre, full_matrices=False)
    count = config.autoencoder.latent_channels
    coordinates = (patches - centre) @ axes[:count].T
    expected = coordinates @ axes[:count] + centre

    model = networks.autoencoder(config)
    mean, logvar = model.apply({"params": params}, image, method="encode")
    copy = model.apply({"params": params}, image)
    np.testing.assert_allclose(
        copy, expected.reshape(2, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(image.shape),
        atol=1e-5,
    )  # fmt: skip
    np.testing.assert_array_equal(logvar, np.full((2, 4, 4, count), -8.0))
    deviations = np.std(coordinates, axis=0) * (2.0 if signed else 1.0)
    np.testing.assert_allclose(np.std(mean, axis=(0, 1, 2)), deviations**0.5, rtol=1e-4)


def _assert_twice(single, double):
    assert largest(single) > 1.0
    difference = jax.tree.map(lambda one, two: two - 2 * one, single, double)
    assert largest(difference) <= 1e-3 * largest(double)


def test_no_setting_is_left_untested():
    elsewhere = {
        "perceptual_file",
        "perceptual_heads",
        "epochs",
        "batch_size",
    }  # read by the workflow and the loader
    in_tests_of_their_own = {"perceptual", "perceptual_weight", "adversarial_start", "kl_weight"}
    of_the_optimiser = {
        "learning_rate", "warmup_steps", "decay", "steps", "betas", "accumulation",
    }  # fmt: skip
    tested = elsewhere | in_tests_of_their_own | of_the_optimiser | set(STRUCTURE) | set(ENCODING)
    assert tested == set(fields.AUTOENCODER.fields)
