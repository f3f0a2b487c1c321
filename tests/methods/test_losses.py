"""Loss terms: golden values, properties."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffad_jax.methods import losses


def test_kl_of_the_prior_is_zero_and_matches_the_closed_form():
    assert float(losses.kl(jnp.zeros((1, 2, 2, 4)), jnp.zeros((1, 2, 2, 4)))[0]) == 0.0
    rng = np.random.default_rng(0)
    mean, logvar = rng.normal(size=(2, 3, 2, 2, 4))
    want = 0.5 * np.sum(mean**2 + np.exp(logvar) - 1 - logvar, axis=(1, 2, 3))
    np.testing.assert_allclose(losses.kl(jnp.float32(mean), jnp.float32(logvar)), want, rtol=1e-5)


def test_l1_and_squared_error():
    a, b = jnp.zeros((2, 2, 2, 3)), jnp.full((2, 2, 2, 3), 0.5)
    np.testing.assert_allclose(losses.l1(a, b), [6.0, 6.0])
    np.testing.assert_allclose(losses.squared_error(a, b), [0.25, 0.25])
    weight = jnp.ones((*a.shape[:3], 1)).at[0, 0, 0].set(1.0 + a.shape[1] * a.shape[2])
    np.testing.assert_allclose(losses.squared_error(a, b, weight), [0.5, 0.25])


def test_focal_golden_value():
    # One pixel, P(anomalous) = 0.5, anomalous: pt = 0.5 + 1e-5 (label smoothing cancels at a half).
    pt = 0.5 + 1e-5
    want = -((1 - pt) ** 2) * np.log(pt)
    got = losses.focal(jnp.zeros((1, 1, 1, 2)), jnp.ones((1, 1, 1)), gamma=2.0)
    np.testing.assert_allclose(got, [want], rtol=1e-5)


def test_focal_without_focus_is_cross_entropy():
    logits = jax.random.normal(jax.random.key(0), (2, 4, 4, 2))
    mask = (jax.random.uniform(jax.random.key(1), (2, 4, 4)) > 0.5).astype(jnp.float32)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, mask.astype(jnp.int32))
    got = losses.focal(logits, mask, gamma=0.0, smoothing=0.0)
    np.testing.assert_allclose(got, entropy.mean(axis=(1, 2)), rtol=1e-5)


def test_focal_attends_to_the_hard_pixels():
    easy, hard = jnp.array([[[[4.0, -4.0]]]]), jnp.array([[[[-4.0, 4.0]]]])
    mask = jnp.zeros((1, 1, 1))
    plain = [float(losses.focal(x, mask, 0.0)[0]) for x in (easy, hard)]
    focal = [float(losses.focal(x, mask, 2.0)[0]) for x in (easy, hard)]
    assert focal[0] / plain[0] < 1e-3 < 0.9 < focal[1] / plain[1]


def test_focal_gradient_is_finite_at_certainty():
    logits = jnp.array([[[[200.0, -200.0], [-200.0, 200.0]]]])
    gradient = jax.grad(lambda x: losses.focal(x, jnp.array([[[0.0, 0.0]]]), 2.0).sum())(logits)
    assert np.all(np.isfinite(gradient))


def test_hinge_golden_values():
    # Two patches an example: ½ mean(max(0, 1 − real) + max(0, 1 + fake)), and −mean(fake).
    real = jnp.array([[2.0, 0.5], [-1.0, 1.0]])[:, :, None, None]
    fake = jnp.array([[-2.0, -0.5], [0.25, 1.0]])[:, :, None, None]
    # (0 + 0, 0.5 + 0.5) and (2 + 1.25, 0 + 2)
    np.testing.assert_allclose(losses.hinge_discriminator(real, fake), [0.25, 1.3125], rtol=1e-6)
    np.testing.assert_allclose(losses.hinge_generator(fake), [1.25, -0.625], rtol=1e-6)


def test_hinge_leaves_alone_what_is_already_told_apart():
    def loss(real, fake):
        return losses.hinge_discriminator(real, fake).sum()

    sure = jnp.full((1, 1, 1, 1), 1.5)
    assert jax.grad(loss, argnums=(0, 1))(sure, -sure) == (0.0, 0.0)
    assert jax.grad(loss, argnums=(0, 1))(-sure, sure) == (-0.5, 0.5)


def test_adaptive_weight_golden_values():
    likeness = jnp.array([[3.0, 0.0], [0.0, 4.0]])  # of length 5
    adversarial = jnp.array([[0.6, 0.0], [0.8, 0.0]])  # of length 1
    np.testing.assert_allclose(losses.adaptive_weight(likeness, adversarial), 5 / 1.0001, rtol=1e-6)
    # 1e-4 keeps it finite, and 1e4 bounds it: 0.5 / 1e-4 and 5 / 1e-4.
    nothing = jnp.zeros((2, 2))
    np.testing.assert_allclose(losses.adaptive_weight(likeness / 10, nothing), 5e3, rtol=1e-6)
    assert losses.adaptive_weight(likeness, nothing) == 1e4
    assert losses.adaptive_weight(nothing, adversarial) == 0.0


def test_no_gradient_flows_through_the_adaptive_weight():
    gradients = jax.grad(losses.adaptive_weight, argnums=(0, 1))(jnp.ones(3), jnp.full(3, 2.0))
    np.testing.assert_array_equal(gradients, np.zeros((2, 3)))
