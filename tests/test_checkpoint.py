"""Checkpoints: which stay, which are trusted, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffad_jax import sharding
from diffad_jax.checkpoint import CheckpointError, Checkpoints
from diffad_jax.fingerprint import describe_photos

HERE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def state(step):
    return {"x": jnp.arange(5000.0) + step}


def template():
    shapes = jax.eval_shape(lambda: state(0))
    return sharding.with_shardings(shapes, {"x": HERE})


def write(directory, scores, keep=2, mark=None):
    """One checkpoint for each score from step 1 on; None is one without a validation."""
    checkpoints = Checkpoints(directory, keep=keep, writes=True)
    for step, score in enumerate(scores, 1):
        checkpoints.save(
            step, state(step), state(step), mark or {}, planned_steps=9,
            figures={} if score is None else {"psnr": score}, best_by="psnr",
        )  # fmt: skip
    checkpoints.close()


def steps(directory):
    return sorted(int(p.name) for p in directory.iterdir())


def test_the_newest_and_the_best_stay(tmp_path):
    write(tmp_path, [3.0, 9.0, 4.0, 5.0, 1.0])
    assert steps(tmp_path) == [2, 4, 5]
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.best_step() == 2 and checkpoints.newest_sound_step() == 5
    assert checkpoints.figures(2) == {"psnr": 9.0} and checkpoints.planned_steps(5) == 9
    restored = checkpoints.restore(2, "state", template(), {}, for_training=True)
    np.testing.assert_array_equal(restored["x"], state(2)["x"])
    checkpoints.close()


def test_an_emergency_stop_has_no_figures_and_is_not_the_best(tmp_path):
    write(tmp_path, [3.0, None])
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.figures(2) == {} and checkpoints.best_step() == 1
    checkpoints.close()


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "truncated": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "a bit flipped": flip_a_bit,
    "deleted": lambda p: p.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_newest_is_passed_over_and_written_again(damage, tmp_path, caplog):
    write(tmp_path, [1.0, 2.0, 3.0])
    damage(largest_file(tmp_path / "3"))
    checkpoints = Checkpoints(tmp_path, keep=2, writes=True)
    assert checkpoints.newest_sound_step() == 2
    assert checkpoints.best_step() == 2
    assert "3 is damaged and passed over: " in caplog.text
    checkpoints.remove_after(2)
    assert steps(tmp_path) == [2]
    checkpoints.save(3, state(3), state(3), {}, planned_steps=9, figures={}, best_by="psnr")
    checkpoints.wait()
    assert checkpoints.newest_sound_step() == 3
    checkpoints.close()


def test_without_checksums_a_checkpoint_counts(tmp_path):
    """Its writer was killed between the checkpoint and them."""
    write(tmp_path, [1.0])
    (tmp_path / "1" / "checksums.json").unlink()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest_sound_step() == 1
    checkpoints.close()


def test_another_fingerprint_is_refused_field_by_field(tmp_path):
    mark = {"seed": 0, "normal photos": "9 files"}
    write(tmp_path, [1.0], mark=mark)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="seed: 0 there, 1 here"):
        checkpoints.restore(1, "weights", template(), {**mark, "seed": 1}, for_training=False)
    other = {**mark, "normal photos": "8 files"}
    with pytest.raises(CheckpointError, match="normal photos: 9 files there, 8 files here"):
        checkpoints.restore(1, "state", template(), other, for_training=True)
    checkpoints.restore(1, "weights", template(), other, for_training=False)
    checkpoints.close()


def test_photos_are_described_by_names_and_sizes(tmp_path):
    files = [tmp_path / n for n in ("a.png", "b.png")]
    for file in files:
        file.write_bytes(b"12")
    before = describe_photos(map(str, files))
    assert before.startswith("2 files") and before == describe_photos(map(str, files[::-1]))
    files[0].write_bytes(b"123")
    assert describe_photos(map(str, files)) != before
