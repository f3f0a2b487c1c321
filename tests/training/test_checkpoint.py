"""Checkpoints: which stay, which are trusted, what is refused."""

import errno
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
import pytest

from diffad_jax.methods.diffad import STAGES
from diffad_jax.runtime import sharding
from diffad_jax.training.checkpoint import CheckpointError, Checkpoints, refuse_other_config
from diffad_jax.training.fingerprint import config_fields, describe_photos
from tests.slow.fault_files import DAMAGE, FILES, largest

UNDEFINED = "undefined"
HERE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def state(step):
    return {"x": jnp.arange(5000.0) + step}


def template():
    shapes = jax.eval_shape(lambda: state(0))
    return sharding.with_shardings(shapes, {"x": HERE})


def write(directory, scores, keep=2, mark=None):
    """One checkpoint for each score from step 1 on; None is one without a validation."""
    found = [None if s is None else {"psnr": None if s == UNDEFINED else s} for s in scores]
    checkpoints = Checkpoints(directory, keep=keep, writes=True)
    for step, metrics in enumerate(found, 1):
        checkpoints.save(
            step, state(step), state(step), mark or {}, planned_steps=9,
            metrics=metrics or {}, best_by="psnr",
        )  # fmt: skip
    checkpoints.close()


def steps(directory):
    return sorted(int(p.name) for p in directory.iterdir())


def test_the_newest_and_the_best_stay(tmp_path):
    write(tmp_path, [3.0, 9.0, 4.0, 5.0, 1.0])
    assert steps(tmp_path) == [2, 4, 5]
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.best_step() == 2 and checkpoints.newest_sound_step() == 5
    assert checkpoints.metrics(2) == {"psnr": 9.0} and checkpoints.planned_steps(5) == 9
    restored = checkpoints.restore(2, "state", template(), {}, for_training=True)
    np.testing.assert_array_equal(restored["x"], state(2)["x"])
    checkpoints.close()


def test_an_emergency_stop_has_no_metrics_and_is_not_the_best(tmp_path):
    write(tmp_path, [3.0, None])
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.metrics(2) == {} and checkpoints.best_step() == 1
    checkpoints.close()


@pytest.mark.parametrize("undefined", [UNDEFINED, float("nan")])  # the latter as once written
def test_an_undefined_metric_is_not_the_best(undefined, tmp_path):
    write(tmp_path, [undefined, 3.0, undefined, 2.0], keep=1)
    assert steps(tmp_path) == [2, 4]
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.best_step() == 2
    checkpoints.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Checkpoints 2 and 3, each better than the one before."""
    directory = tmp_path_factory.mktemp("written")
    write(directory, [1.0, 2.0, 3.0])
    return directory


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_of_any_kind_is_noticed_or_not_needed(damage, written, tmp_path):
    """Orbax's own note of the time is needed for nothing."""
    for kind, pattern in FILES.items():
        shutil.copytree(written, tmp_path, dirs_exist_ok=True)
        damage(largest(tmp_path / "3", pattern))
        checkpoints = Checkpoints(tmp_path)
        sound = 3 if kind == "Orbax metadata" else 2
        assert checkpoints.newest_sound_step() == sound, kind
        assert checkpoints.best_step() == sound, kind
        restored = checkpoints.restore(sound, "state", template(), {}, for_training=True)
        np.testing.assert_array_equal(restored["x"], state(sound)["x"])
        checkpoints.close()


def test_a_damaged_newest_is_passed_over_and_written_again(written, tmp_path, caplog):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    DAMAGE["bit-flipped"](largest(tmp_path / "3", FILES["state, data"]))
    checkpoints = Checkpoints(tmp_path, keep=2, writes=True)
    assert checkpoints.newest_sound_step() == 2
    assert checkpoints.best_step() == 2
    assert "3 is damaged and passed over: " in caplog.text
    checkpoints.remove_after(2)
    assert steps(tmp_path) == [2]
    checkpoints.save(3, state(3), state(3), {}, planned_steps=9, metrics={}, best_by="psnr")
    checkpoints.wait()
    assert checkpoints.newest_sound_step() == 3
    checkpoints.close()


def test_where_all_are_damaged_the_faults_and_the_remedy_are_named(written, tmp_path):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    for step in (2, 3):
        DAMAGE["deleted"](tmp_path / str(step) / "plan" / "metadata")
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=r"(?s)/2: plan/metadata is missing.*or delete /"):
        checkpoints.newest_sound_step()
    checkpoints.close()


def test_what_a_kill_left_half_written_is_nothing_and_goes(written, tmp_path):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    half = tmp_path / "4.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "3", half)
    checkpoints = Checkpoints(tmp_path, keep=2, writes=True)
    assert checkpoints.newest_sound_step() == 3
    checkpoints.save(5, state(5), state(5), {}, planned_steps=9, metrics={}, best_by="psnr")
    checkpoints.close()
    assert steps(tmp_path) == [3, 5]


FULL = "No space left on device"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, FULL), ValueError(f"EXHAUSTED: {FULL}")])
def test_a_full_disk_is_explained(error, written, tmp_path, monkeypatch):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    checkpoints = Checkpoints(tmp_path, keep=2, writes=True)

    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", fails)
    with pytest.raises(CheckpointError, match=r"disk is full\. Make room .* goes on from step 3"):
        checkpoints.save(4, state(4), state(4), {}, planned_steps=9, metrics={}, best_by="psnr")
    monkeypatch.undo()
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


def test_a_checkpoint_is_on_the_disk_before_its_name_and_its_name_before_older_ones_go(
    disk_calls, tmp_path
):
    write(tmp_path / "stage", [1.0, 2.0], keep=1)
    assert steps(tmp_path / "stage") == [2]
    assert ("fsync", str(tmp_path)) in disk_calls  # the name of the stage's folder
    half = f"{tmp_path}/stage/2.orbax-checkpoint-tmp"
    renamed = disk_calls.index(("rename", half, f"{tmp_path}/stage/2"))
    before, after = disk_calls[:renamed], disk_calls[renamed + 1 :]
    written = {p.relative_to(tmp_path / "stage" / "2") for p in (tmp_path / "stage/2").rglob("*")}
    # Orbax touches these last, and reads neither.
    synced = written - {Path("_CHECKPOINT_METADATA"), Path("commit_success.txt")}
    assert len(synced) > 20
    assert {f"{half}/{path}" for path in synced} | {half} <= {c[1] for c in before}
    removed = [i for i, call in enumerate(after) if call[0] == "unlink"]
    assert removed and after.index(("fsync", f"{tmp_path}/stage")) < removed[0]


@pytest.mark.parametrize("content", ["{}", "[]", "null", '"a"', "{", "[" * 10**5])
def test_a_list_of_checksums_that_lists_nothing_is_no_proof(tmp_path, content):
    write(tmp_path, [1.0, 2.0])
    (tmp_path / "2" / "checksums.json").write_text(content)
    assert newest_sound_step(tmp_path) == 1


@pytest.mark.parametrize("item", ["state", "weights", "fingerprint", "plan", "held_out"])
def test_every_file_of_a_checkpoint_is_in_the_list(tmp_path, item):
    """An item that has lost its files and its lines in the list, or a line alone."""
    write(tmp_path, [1.0, 2.0])
    file = tmp_path / "2" / "checksums.json"
    listed = json.loads(file.read_text())
    one = next(name for name in listed if name.startswith(f"{item}/"))
    file.write_text(json.dumps({k: v for k, v in listed.items() if k != one}))
    assert newest_sound_step(tmp_path) == 1
    if item in ("state", "held_out"):  # not every checkpoint has one
        return
    shutil.rmtree(tmp_path / "2" / item)
    file.write_text(json.dumps({k: v for k, v in listed.items() if not k.startswith(item)}))
    assert newest_sound_step(tmp_path) == 1


def newest_sound_step(directory):
    checkpoints = Checkpoints(directory)
    found = checkpoints.newest_sound_step()
    checkpoints.close()
    return found


def test_a_damaged_fingerprint_is_no_other_config(tmp_path, tiny_config):
    """A flipped bit in a field's name once ended a training that older checkpoints could go on."""
    frozen = ml_collections.FrozenConfigDict(tiny_config)
    write(tmp_path / STAGES[0].name, [3.0, 4.0], mark=config_fields(STAGES[0], frozen))
    refuse_other_config(STAGES[0], frozen, tmp_path)
    tiny_config.autoencoder.linear_skip = False
    other = ml_collections.FrozenConfigDict(tiny_config)
    with pytest.raises(CheckpointError, match=r"autoencoder\.linear_skip: True there, False here"):
        refuse_other_config(STAGES[0], other, tmp_path)
    found = tmp_path / STAGES[0].name / "2" / "fingerprint" / "metadata"
    found.write_bytes(found.read_bytes().replace(b"linear_skip", b"linear_rkip"))
    for config in (frozen, other):  # the older checkpoint tells, once it is restored
        refuse_other_config(STAGES[0], config, tmp_path)
    (tmp_path / STAGES[0].name / "2" / "checksums.json").write_text("[]")
    refuse_other_config(STAGES[0], frozen, tmp_path)
