"""The launch scripts: what they would run, and what they make of exit statuses and signals."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from configs import mvtec

ROOT = Path(__file__).parents[2]
SCRIPTS = ("gpu_server.sh", "slurm.sbatch", "slurm_predict.sbatch", "sweep.sh", "tpu_vm.sh")
STOPPED = 75
LOST = 134

# A stand-in for python: notes its device and arguments, then does the n-th thing of its category's
# line in $PLAN: an exit status, or "wait" for a SIGTERM. Without a line it succeeds.
FAKE_PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$CUDA_VISIBLE_DEVICES $*" >>"$HERE/calls"
category=$(sed -n 's/.*--config=[^ :]*:\\([a-z_]*\\).*/\\1/p' <<<"$*")
if [[ $* == *--mode=evaluate* ]]; then category=evaluate; fi
echo >>"$HERE/count.$category"
action=$(sed -n "s/^$category //p" <<<"$PLAN" | cut -d' ' -f"$(wc -l <"$HERE/count.$category")")
trap 'sleep 0.3; touch "$HERE/saved"; exit 75' TERM
if [[ $action == wait ]]; then
  touch "$HERE/waiting"
  for _ in {1..200}; do sleep 0.05; done
fi
exit "${action:-0}"
"""

# A stand-in for gcloud: the $n-th training ends with the n-th status of $PLAN; 255 is a lost TPU.
FAKE_GCLOUD = """#!/usr/bin/env bash
what=$(tr '\\n' ' ' <<<"$*")
echo "$what" >>"$HERE/calls"
case $what in
*" create "*) echo ACTIVE >"$HERE/state" ;;
*" describe "*) cat "$HERE/state" ;;
*" delete "*) rm "$HERE/state" ;;
*diffad_jax.main*)
  status=$(cut -d' ' -f"$(grep -c diffad_jax.main "$HERE/calls")" <<<"$PLAN")
  if [[ $status == 255 ]]; then echo SUSPENDED >"$HERE/state"; fi
  exit "$status" ;;
esac
"""

# A stand-in for srun: ends as the training would.
FAKE_SRUN = """#!/usr/bin/env bash
echo "srun $*" >>"$HERE/calls"
exit "$PLAN"
"""
FAKE_SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >>"$HERE/calls"
"""
FORBIDDEN = """#!/usr/bin/env bash
echo "$0 $*" >>"$HERE/calls"
exit 99
"""


@pytest.fixture
def here(tmp_path):
    (tmp_path / "bin").mkdir()
    return tmp_path


def put(here, name, text):
    file = here / "bin" / name
    file.write_text(text)
    file.chmod(0o755)


def environment(here, **settings):
    """The stand-ins come first on PATH; settings of the caller's shell stay out."""
    path = f"{here / 'bin'}:{os.environ['PATH']}"
    plain = {"HOME": str(here), "PATH": path, "HERE": str(here), "PLAN": ""}
    return plain | {"PYTHON": "python", "WORKDIR": str(here / "runs")} | settings


def launch(here, script, *flags, **settings):
    command = ["bash", str(ROOT / "launch" / script), *flags]
    return subprocess.run(
        command,
        env=environment(here, **settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


def names(without=()):
    return ",".join(c for c in mvtec.CATEGORIES if c not in without)


def calls(here):
    file = here / "calls"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("script", [*SCRIPTS, "lib.sh"])
def test_is_valid_bash(script):
    subprocess.run(["bash", "-n", ROOT / "launch" / script], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_passes_shellcheck():
    files = [f"launch/{s}" for s in SCRIPTS]
    done = subprocess.run(["shellcheck", "-x", *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


DRY_RUNS = {
    "gpu_server.sh": [
        "+ python3 -m venv .fresh",
        "--constraint constraints.txt --editable '.[data]' 'jax[cuda12]'",
        "+ .fresh/bin/python -m diffad_jax.main --config=configs/mvtec.py --workdir=W --x='a b'",
    ],
    "sweep.sh": [
        "+ env CUDA_VISIBLE_DEVICES=0 python -m diffad_jax.main --config=configs/mvtec.py:bottle "
        "--workdir=W",
        f"+ python -m diffad_jax.main --mode=evaluate --config=configs/mvtec.py:{names()} "
        "--workdir=W",
    ],
    "slurm.sbatch": [
        "+ srun --wait=60 python -m diffad_jax.main --distributed --config=configs/mvtec.py "
        "--workdir=W",
        "+ scontrol requeue JOB",
    ],
    "slurm_predict.sbatch": [
        "+ srun python -m diffad_jax.main --workdir=W --output=runs/predictions --mode=predict "
        "--input=new_photos --shard=I/N --x='a b'",
        "+ scontrol requeue JOB_I",
        "+ srun python -m diffad_jax.main --workdir=W --output=runs/predictions --mode=merge",
    ],
    "tpu_vm.sh": [
        "+ gcloud compute tpus queued-resources create diffad --zone=europe-west4-a "
        "--node-id=diffad --accelerator-type=v6e-8 --runtime-version=v2-alpha-tpuv6e --spot",
        "sudo mount -t nfs 10.0.0.2:/diffad /mnt/diffad",
        "python -m diffad_jax.main --distributed --config=configs/mvtec.py --workdir=W",
        "+ gcloud compute tpus queued-resources delete diffad --zone=europe-west4-a --force "
        "--quiet",
    ],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_dry_run_prints_and_runs_nothing(here, script):
    for name in ("gcloud", "kubectl", "sbatch", "srun", "scontrol", "python", "python3", "git"):
        put(here, name, FORBIDDEN)
    settings = {"WORKDIR": "W", "VENV": ".fresh", "SHARE": "10.0.0.2:/diffad"}
    done = launch(here, script, "--dry-run", "--x=a b", **settings)
    assert done.returncode == 0, done.stderr
    assert calls(here) == []
    shown = done.stderr.replace("'--x=a b'", "--x='a b'")
    for expected in DRY_RUNS[script]:
        assert expected in shown
    assert not (ROOT / "W").exists() and not (ROOT / ".fresh").exists()


def test_gpu_server_starts_again_until_it_is_finished(here):
    put(here, "python", FAKE_PYTHON)
    settings = {"CONFIG": "c.py:bottle", "VENV": str(here), "PLAN": "bottle 75 134 0"}
    done = launch(here, "gpu_server.sh", "--config.seed=1", **settings)
    assert done.returncode == 0, done.stderr
    train = f"-m diffad_jax.main --config=c.py:bottle --workdir={here}/runs --config.seed=1"
    assert [c.strip() for c in calls(here)] == [train] * 3


@pytest.mark.parametrize(
    ("plan", "status", "starts"), [("1", 1, 1), ("75 75 75", STOPPED, 3), ("139", 139, 1)]
)
def test_gpu_server_gives_up(here, plan, status, starts):
    put(here, "python", FAKE_PYTHON)
    settings = {"CONFIG": "c.py:bottle", "VENV": str(here), "MAX_RESTARTS": "2"}
    done = launch(here, "gpu_server.sh", PLAN=f"bottle {plan}", **settings)
    assert (done.returncode, len(calls(here))) == (status, starts)


@pytest.mark.parametrize(
    ("script", "settings", "starts"),
    [
        ("gpu_server.sh", {"CONFIG": "c.py:bottle"}, 1),
        ("sweep.sh", {"CATEGORIES": "bottle pill zipper", "DEVICES": "0"}, 1),
    ],
)
def test_sigterm_goes_on_to_training_which_is_not_started_again(here, script, settings, starts):
    put(here, "python", FAKE_PYTHON)
    env = environment(here, VENV=str(here), PLAN="bottle wait", **settings)
    with subprocess.Popen(["bash", ROOT / "launch" / script], env=env) as process:
        limit = time.monotonic() + 20
        while not (here / "waiting").exists():
            assert time.monotonic() < limit and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == STOPPED
    assert (here / "saved").exists()  # it waited for that
    assert len(calls(here)) == starts


def test_sweep_gives_each_category_to_one_worker_and_evaluates_all(here):
    put(here, "python", FAKE_PYTHON)
    plan = "\n".join(f"{c} 75 0" for c in mvtec.CATEGORIES)
    done = launch(here, "sweep.sh", "--config.seed=1", DEVICES="4 7", PLAN=plan)
    assert done.returncode == 0, done.stderr
    *trained, last = calls(here)
    for category in mvtec.CATEGORIES:
        mine = [c for c in trained if f"--config=configs/mvtec.py:{category} " in c]
        assert len(mine) == 2 and mine[0] == mine[1]  # on one device, stopped once
        assert f"--workdir={here}/runs --config.seed=1" in mine[0]
        assert "restart 1 of" in (here / "runs" / "logs" / f"{category}.log").read_text()
    assert {c.split()[0] for c in trained} == {"4", "7"}
    assert f" --mode=evaluate --config=configs/mvtec.py:{names()} --workdir={here}/runs " in last


def test_shares_of_a_sweep_hold_each_category_once(here):
    put(here, "python", FAKE_PYTHON)
    for i in range(3):
        done = launch(here, "sweep.sh", SHARD=f"{i}/3", PLAN=f"{mvtec.CATEGORIES[0]} 75 0")
        assert done.returncode == 0 and "sweep.sh without SHARD" in done.stderr
    trained = [c.split(":")[1].split()[0] for c in calls(here)]
    assert sorted(trained) == sorted([*mvtec.CATEGORIES, mvtec.CATEGORIES[0]])
    assert not any("evaluate" in call for call in calls(here))
    for wrong in ("3/3", "1", "a/b", "08/9"):
        done = launch(here, "sweep.sh", SHARD=wrong)
        assert done.returncode == 1 and f"SHARD={wrong}: must be I/N" in done.stderr


def test_sweep_finishes_the_others_and_names_the_failed(here):
    put(here, "python", FAKE_PYTHON)
    done = launch(here, "sweep.sh", DEVICES="0 1", PLAN="cable 1\nwood 75 3")
    assert done.returncode == 1
    for category in ("cable", "wood"):
        assert f"{category} failed: see {here}/runs/logs/{category}.log" in done.stderr
    assert done.stderr.count("failed") == 2
    others = names(without=("cable", "wood"))
    assert f"--mode=evaluate --config=configs/mvtec.py:{others} " in calls(here)[-1]


def test_sweep_where_all_fail_evaluates_nothing(here):
    put(here, "python", FAKE_PYTHON)
    done = launch(here, "sweep.sh", CATEGORIES="pill", PLAN="pill 1")
    assert done.returncode == 1 and len(calls(here)) == 1


def test_sweep_fails_where_the_evaluation_does(here):
    put(here, "python", FAKE_PYTHON)
    assert launch(here, "sweep.sh", CATEGORIES="pill", PLAN="evaluate 3").returncode == 3


@pytest.mark.parametrize(
    ("status", "restarts", "requeues"),
    [(0, "", 0), (1, "", 0), (STOPPED, "", 1), (LOST, "", 1), (STOPPED, "100", 0)],
)
def test_slurm_goes_back_into_the_queue_when_stopped(here, status, restarts, requeues):
    put(here, "srun", FAKE_SRUN)
    put(here, "scontrol", FAKE_SCONTROL)
    slurm = {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": restarts or "0"}
    done = launch(here, "slurm.sbatch", PLAN=str(status), **slurm)
    assert done.returncode == status
    assert calls(here)[1:] == ["scontrol requeue 12"] * requeues


@pytest.mark.parametrize(("status", "requeues"), [(0, 0), (3, 0), (STOPPED, 1)])
def test_a_task_of_a_slurm_array_scores_its_shard(here, status, requeues):
    put(here, "srun", FAKE_SRUN)
    put(here, "scontrol", FAKE_SCONTROL)
    slurm = {"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "8"}
    done = launch(here, "slurm_predict.sbatch", PLAN=str(status), **slurm)
    assert done.returncode == status
    scored, *queued = calls(here)
    assert "--mode=predict" in scored and scored.endswith("--shard=2/8")
    assert queued == ["scontrol requeue 9_2"] * requeues


def test_outside_an_array_slurm_joins_the_shards(here):
    put(here, "srun", FAKE_SRUN)
    assert launch(here, "slurm_predict.sbatch", PLAN="3").returncode == 3
    (joined,) = calls(here)
    assert joined.endswith("--mode=merge")


def tpu_calls(here, plan, **settings):
    put(here, "gcloud", FAKE_GCLOUD)
    put(here, "git", "#!/usr/bin/env bash\n")
    settings = {"SHARE": "10.0.0.2:/diffad", "POLL_SECONDS": "0.01", "PLAN": plan} | settings
    done = launch(here, "tpu_vm.sh", **settings)
    verbs = ("create", "install", "diffad_jax.main", "delete")
    short = [v for c in calls(here) for v in verbs if f"{v} " in c]
    assert not (here / "state").exists()  # nothing is left that costs money
    return done.returncode, short


ONE_TPU = ["create", "install", "diffad_jax.main", "delete"]


def test_tpu_goes_on_with_another_after_preemption_or_a_stop(here):
    assert tpu_calls(here, "255 75 0") == (0, ONE_TPU * 3)


def test_tpu_is_deleted_when_training_fails(here):
    assert tpu_calls(here, "1") == (1, ONE_TPU)


def test_tpu_restarts_have_a_limit(here):
    assert tpu_calls(here, "255 255", MAX_RESTARTS="1") == (STOPPED, ONE_TPU * 2)


def test_tpu_without_a_share_says_what_is_missing(here):
    done = launch(here, "tpu_vm.sh", "--dry-run")
    assert done.returncode != 0 and "SHARE: names the NFS share" in done.stderr


def test_jobset_restarts_without_limit_on_75_and_on_preemption():
    jobset = yaml.safe_load((ROOT / "launch" / "gke_jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (rule,) = jobset["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    exits, disrupted = job["podFailurePolicy"]["rules"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert exits["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": [STOPPED],
    }
    assert disrupted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    # A pod failure policy needs this, and each host of a slice is a pod.
    assert pod["restartPolicy"] == "Never" and job["backoffLimit"] == 0
    assert job["parallelism"] == job["completions"]
    assert container["command"][:3] == ["python", "-m", "diffad_jax.main"]


def test_an_indexed_job_has_a_pod_for_each_shard():
    job = yaml.safe_load((ROOT / "launch" / "gke_predict.yaml").read_text())
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"][:3] == ["python", "-m", "diffad_jax.main"]
    shard = f"--shard=$(JOB_COMPLETION_INDEX)/{spec['completions']}"
    assert spec["completionMode"] == "Indexed" and container["command"][-1] == shard
    unreadable, stopped, disrupted = spec["podFailurePolicy"]["rules"]
    assert unreadable["onExitCodes"]["values"] == [3] and unreadable["action"] == "FailIndex"
    assert stopped["onExitCodes"]["values"] == [STOPPED] and stopped["action"] == "Ignore"
    assert disrupted["onPodConditions"][0]["type"] == "DisruptionTarget"
    # What FailIndex and a pod failure policy need.
    assert "backoffLimitPerIndex" in spec and spec["template"]["spec"]["restartPolicy"] == "Never"
