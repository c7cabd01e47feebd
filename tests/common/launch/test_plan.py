"""Launching: what is printed for each target, what is refused, and what is started with --go. No framework."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from twinscale.common.errors import BadInput, MissingEnvironment, TwinscaleError
from twinscale.common.launch import plan as module
from twinscale.common.launch.plan import launch, plan, slice_hosts

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
RECIPE = "recipes/decoder-stdlib.toml"
TPU = {"name": "train-1", "zone": "us-central2-b", "project": "my-project", "workdir": "twinscale"}
SLURM = {"partition": "gpu", "time": "8:00:00", "account": "lab", "gpus_per_host": 4, "cpus_per_host": 16,
         "workdir": "/home/me/twinscale", "env": "/home/me/env"}
GKE = {"name": "train-1", "image": "us-docker.pkg.dev/my-project/images/train:1", "accelerator": "tpu-v6e-slice",
       "topology": "4x4"}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def made(target, backend="jax", hosts=2, run=None, overrides=("devices.data=0",), **options):
    known = {"local": {}, "tpu": TPU, "slurm": SLURM, "gke": GKE}[target]
    run = run or ("gs://bucket/run" if target in ("tpu", "gke") else "runs/two")
    options = {key: value for key, value in (known | options).items() if value is not None}
    return plan(RECIPE, overrides, backend=backend, run=run, target=target, hosts=hosts, options=options,
                python="python")


# ---- what is printed

CASES = {
    "local-jax": dict(overrides=("train.steps=20", "devices.data=2")),
    "local-keras": dict(overrides=("train.steps=20", "devices.data=2")),
    "tpu-jax": dict(hosts=4),
    "tpu-keras": dict(hosts=4),
    "slurm-jax": dict(hosts=4),
    "slurm-keras": dict(hosts=4),
    "gke-jax": dict(hosts=8, slices=2, service_account="trainer",
                    overrides=("devices.data=0", "devices.replica=2", "train.global_batch=64")),
    "gke-keras": dict(hosts=1, topology="2x4", accelerator="tpu-v5-lite-podslice"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_printed_is_the_golden_file(case):
    target, backend = case.split("-")
    assert made(target, backend, **CASES[case]).text == (GOLDEN / f"launch-{case}.txt").read_text()


def test_without_go_it_prints_and_runs_nothing(capsys, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    assert launch(RECIPE, ["devices.data=0"], backend="jax", run="gs://b/r", target="tpu", hosts=4, options=TPU) == 0
    out, err = capsys.readouterr()
    assert out.startswith("gcloud compute tpus tpu-vm ssh train-1 ") and not err


def test_each_host_of_this_machine_knows_its_number():
    jax = made("local", "jax", hosts=3, overrides=["devices.data=3", "train.global_batch=12"]).environments
    assert [host["JAX_PROCESS_ID"] for host in jax] == ["0", "1", "2"]
    assert {(host["JAX_COORDINATOR_ADDRESS"], host["JAX_NUM_PROCESSES"]) for host in jax} == {("127.0.0.1:12345", "3")}
    keras = [json.loads(host["TF_CONFIG"]) for host in made("local", "keras").environments]
    assert [host["task"] for host in keras] == [{"type": "worker", "index": 0}, {"type": "worker", "index": 1}]
    assert all(host["cluster"] == {"worker": ["127.0.0.1:12345", "127.0.0.1:12346"]} for host in keras)
    assert made("local", hosts=1).environments == [{}]


def test_keras_on_jax_is_launched_as_jax_is_by_its_own_words():
    """It is the runtime that finds its hosts, and the program and the runtime together that the command names."""
    for target, options in CASES.items():
        if target.endswith("-jax"):
            name = target.removesuffix("-jax")
            jax, keras = (made(name, backend, **options) for backend in ("jax", "keras-jax"))
            assert keras.environments == jax.environments
            assert "--runtime" in keras.text
            assert re.sub(r"keras\W+--runtime\W+jax", "jax", keras.text) == jax.text, target


def test_a_chip_without_tensorflow_takes_keras_on_jax():
    asked = dict(accelerator="tpu7x", topology="2x2x1", hosts=1)
    with pytest.raises(BadInput, match="TensorFlow does not run on it: pass --runtime jax, or --backend jax"):
        made("gke", "keras", **asked)
    assert "tpu7x" in made("gke", "keras-jax", **asked).text
    with pytest.raises(BadInput, match='devices.strategy="tpu"'):
        made("gke", "keras-jax", overrides=("devices.data=0", "devices.strategy=tpu"), **asked)


def test_keras_drives_a_slice_of_several_hosts_from_its_first():
    words = shlex.split(made("tpu", "keras", hosts=4).commands[0][-1])
    assert made("tpu", "keras", hosts=4).commands[0][-3] == "--worker=0"
    assert {"TPU_NAME=train-1", "TPU_LOAD_LIBRARY=0", "devices.tpu=train-1", "devices.hosts=1"} <= set(words)
    alone = made("tpu", "keras", hosts=1, run="runs/k").commands[0]
    assert "devices.tpu=local" in alone[-1] and "TPU_NAME" not in alone[-1] and alone[-3] == "--worker=0"
    assert made("tpu", "jax", hosts=4).commands[0][-3] == "--worker=all"


# ---- the manifest

def manifest(**options):
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(made("gke", **options).text)


def test_the_manifest_holds_what_gke_and_jobset_read():
    jobset = manifest(**CASES["gke-jax"])
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (slices,) = jobset["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (slices["replicas"], job["parallelism"], job["completions"], job["backoffLimit"]) == (2, 4, 4, 0)
    assert pod["nodeSelector"] == {"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
                                   "cloud.google.com/gke-tpu-topology": "4x4"}
    assert container["resources"]["limits"] == {"google.com/tpu": "4"}
    assert container["command"][:3] == ["twinscale", "train", RECIPE] and "devices.hosts=8" in container["command"]
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] == 120
    # Exit code 75 fails the job for a reason that restarts without counting.
    rule = job["podFailurePolicy"]["rules"][0]
    assert rule == {"action": "FailJob", "onExitCodes": {"containerName": container["name"], "operator": "In",
                                                         "values": [75]}}
    assert jobset["spec"]["failurePolicy"]["rules"][0]["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert jobset["spec"]["failurePolicy"]["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_the_manifest_gives_every_word_back_as_it_was():
    hostile = ['data.source=text:a b/"$(HOME)" `id`; rm -rf /#\\n: - {é}', "optimizer.name=sgd"]
    manifested = manifest(hosts=4, overrides=["devices.data=0", *hostile], run="gs://b/yes: no # $$(X)")
    words = manifested["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["command"]
    expanded = [word.replace("$$", "$") for word in words]  # what a container's start does
    assert expanded[4:6] == hostile and expanded[-1] == "gs://b/yes: no # $$(X)"


# ---- TPU slices

@pytest.mark.parametrize("accelerator, topology, hosts", [
    ("tpu-v5-lite-podslice", "1x1", {1: 1}), ("tpu-v5-lite-podslice", "16x16", {64: 4}),
    ("tpu-v6e-slice", "2x4", {1: 8, 2: 4}), ("tpu-v6e-slice", "8x8", {16: 4}),
    ("tpu-v4-podslice", "2x2x1", {1: 4}), ("tpu-v4-podslice", "2x2x4", {4: 4}), ("tpu-v5p-slice", "4x4x12", {48: 4}),
    ("tpu-v5p-slice", "16x16x24", {1536: 4}), ("tpu7x", "2x2x1", {1: 4}), ("tpu7x", "4x4x4", {16: 4}),
])
def test_a_slice_has_the_hosts_that_its_maker_says(accelerator, topology, hosts):
    assert slice_hosts(accelerator, topology) == hosts


@pytest.mark.parametrize("accelerator, topology, words", [
    ("tpu-v6e", "4x4", "did you mean \"tpu-v6e-slice\"?"), ("tpu-v6e-slice", "4x4x4", "expected one of 1x1, 2x2"),
    ("tpu-v6e-slice", "3x3", "no slice of tpu-v6e-slice"), ("tpu-v4-podslice", "4x4", "AxBxC"),
    ("tpu-v4-podslice", "4x2x2", "A <= B <= C"), ("tpu-v4-podslice", "16x16x24", "4096 chips"),
    ("tpu-v5p-slice", "2x2x3", "multiple of 4"), ("tpu-v5p-slice", "4x4x4\n", "AxBxC"),
])
def test_a_slice_that_is_not_made_is_refused(accelerator, topology, words):
    with pytest.raises(BadInput, match=words.replace("?", "\\?")):
        slice_hosts(accelerator, topology)


# ---- what is refused

@pytest.mark.parametrize("target, changes, words", [
    ("local", dict(hosts=0), "--hosts 0: expected 1 or more"),
    ("local", dict(hosts=257), "--hosts 257: expected 256 or less"),
    ("local", dict(name="x"), "--name: no option of launch local"),
    ("tpu", dict(image="x"), "--image: no option of launch tpu, which has --name"),
    ("tpu", dict(zone=None, name=None), "launch tpu needs --name, --zone: add them"),
    ("gke", dict(image=None, hosts=4), "launch gke needs --image: add it"),
    ("tpu", dict(name="Train"), '--name "Train": expected a TPU\'s name'),
    ("tpu", dict(name="--flag"), "--name"),
    ("tpu", dict(zone="us; rm -rf /"), "--zone"),
    ("tpu", dict(project="a b"), "--project"),
    ("tpu", dict(workdir="~/twinscale"), "write the path in full"),
    ("tpu", dict(workdir="a\nb"), "--workdir"),
    ("tpu", dict(run="runs/x"), "2 hosts write it: name a place such as gs://bucket/run"),
    ("gke", dict(run="runs/x", hosts=4), "the disk of a pod ends with it"),
    ("gke", dict(name="a" * 41, hosts=4), "40 at most"),
    ("gke", dict(image="a b", hosts=4), "--image"),
    ("gke", dict(namespace="Default", hosts=4), "--namespace"),
    ("gke", dict(hosts=2), "--hosts 2: --topology 4x4 of tpu-v6e-slice has 4 hosts: pass --hosts 4"),
    ("gke", dict(hosts=4, slices=2), "2 slices of --topology 4x4 of tpu-v6e-slice have 8 hosts: pass --hosts 8"),
    ("gke", dict(hosts=3, topology="2x4"), "1 or 2 hosts"),
    ("gke", dict(hosts=2, slices=2, topology="2x2"), "joins slices of several hosts only"),
    ("gke", dict(hosts=8, slices=2), "devices.replica=1: it counts slices, and this launch has 2"),
    ("gke", dict(hosts=4, overrides=["devices.data=64", "train.global_batch=64"]), "needs 64 devices, but the launch"),
    ("gke", dict(hosts=4, overrides=["devices.tensor=3", "devices.data=4"]), "does not divide model"),
    ("gke", dict(hosts=4, backend="keras"), "pass --hosts 1 and a topology of one host"),
    ("gke", dict(hosts=1, backend="keras", accelerator="tpu7x", topology="2x2x1"), "TensorFlow does not run on it"),
    ("gke", dict(hosts=1, accelerator="tpu7x", topology="2x2x1", overrides=["devices.data=16"]),
     "needs 16 devices, but the launch finds 8"),
    ("slurm", dict(partition="gpu\n#SBATCH --uid=0"), "--partition"),
    ("slurm", dict(time="soon"), "expected minutes, H:M:S or D-H:M:S"),
    ("slurm", dict(gpus_per_host=0), "--gpus-per-host 0: expected 1 to"),
    ("slurm", dict(grace=-1), "--grace -1"),
    ("slurm", dict(name="a;b"), "--name"),
    ("local", dict(run="runs/a\nb"), "holds a character that does not print"),
    ("local", dict(run="-x"), "put ./ before it"),
    ("local", dict(run=" "), "--run: empty"),
    ("local", dict(overrides=["devices.hosts=4"]), "devices.hosts follows from the target and --hosts"),
    ("tpu", dict(backend="keras", overrides=["devices.tpu=other"]), "devices.tpu follows from the target"),
    ("local", dict(overrides=["train.step=3", "devices.data=0"]), 'did you mean "train.steps"?'),
    ("local", dict(overrides=["seed=1\u202e"]), "does not print"),
    ("local", dict(overrides=[]), "1 device in all cannot be shared evenly by 2 hosts: set devices.data=0"),
    ("local", dict(overrides=["devices.data=3"]), "3 devices in all"),
])
def test_what_cannot_be_launched_is_refused_in_words(target, changes, words):
    with pytest.raises(BadInput) as error:
        made(target, **changes)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_shared_disk_may_be_named():
    assert "/nfs/run" in made("tpu", run="/nfs/run", shared=True).text


@pytest.mark.parametrize("hostile", ["runs/a; rm -rf ~", "runs/a b", "runs/$(id)", "runs/`id`", "runs/'\"", "runs/a&b",
                                     "runs/\\"])
@pytest.mark.parametrize("target", ["local", "tpu", "slurm"])
def test_hostile_values_arrive_as_they_were(target, hostile, tmp_path):
    """The printed text runs under a real shell, whose programs are stand-ins that print their words."""
    for program in ("python", "gcloud", "srun", "twinscale"):
        stand_in = tmp_path / program
        stand_in.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
        stand_in.chmod(0o755)
    text = made(target, run=hostile, shared=True if target == "tpu" else None,
                **dict(env=None, workdir=None) if target == "slurm" else {}).text
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True,
                          env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    words = done.stdout.splitlines()
    if target == "tpu":  # and then under the far one's
        words = shlex.split(words[-1])
    if target == "local":  # two print at once
        assert done.returncode == 0 and words.count(hostile) == words.count("--run") == 2
    else:
        assert done.returncode == 0 and words[-2:] == ["--run", hostile]


# ---- SLURM's script, with stand-ins for SLURM

SRUN = """#!/bin/bash
while [ "$1" != bash ]; do shift; done
for SLURM_PROCID in 0 1 2 3; do export SLURM_PROCID; "$@" & tasks+=($!); done
worst=0
for task in "${tasks[@]}"; do wait "$task"; code=$?; [ "$code" -gt "$worst" ] && worst=$code; done
exit "$worst"
"""


@pytest.fixture
def slurm(tmp_path):
    """Runs the script of a plan with `body` in the place of twinscale: (exit code, stdout, what scontrol was asked)."""
    def run(body, **options):
        programs = {"srun": SRUN, "sleep": "#!/bin/bash\n", "twinscale": f"#!/bin/bash\n{body}\n",
                    "scontrol": '#!/bin/bash\necho "$@" >> asked\n[ "$1" = show ] && printf "n%s\\n" 1 2 3 4\nexit 0\n'}
        for name, text in programs.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        text = made("slurm", hosts=4, env=None, workdir=str(tmp_path), **options).text
        done = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, timeout=20,
                              env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "4097",
                                   "SLURM_JOB_NODELIST": "n[1-4]"})
        assert not done.stderr
        asked = tmp_path / "asked"
        return done.returncode, done.stdout, asked.read_text().splitlines() if asked.exists() else []
    return run


def test_slurm_requeues_what_stopped_early_and_nothing_else(slurm):
    assert slurm("exit 0") == (0, "", [])
    assert slurm("exit 3") == (3, "", [])
    assert slurm("exit 75", requeue=False) == (75, "", [])
    assert slurm("exit 75") == (75, "", ["requeue 4097"])


def test_slurm_tells_keras_its_cluster(slurm):
    code, out, _ = slurm('echo "$TF_CONFIG"', backend="keras")
    said = sorted((json.loads(line) for line in out.splitlines()), key=lambda config: config["task"]["index"])
    assert code == 0 and [config["task"]["index"] for config in said] == [0, 1, 2, 3]
    assert all(config["cluster"] == {"worker": [f"n{n}:61441" for n in (1, 2, 3, 4)]} for config in said)


def test_slurm_gives_jax_all_gpus_of_a_host(slurm):
    assert slurm('echo "$JAX_LOCAL_DEVICE_IDS"')[1] == "0,1,2,3\n" * 4
    assert slurm('echo "$JAX_LOCAL_DEVICE_IDS"', gpus_per_host=None)[1] == "\n" * 4


# ---- with --go

def test_go_starts_the_hosts_of_this_machine(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "run_local", lambda *arguments: calls.append(arguments) or 75)
    assert launch(RECIPE, ["devices.data=2"], backend="jax", run="runs/none-yet", target="local", hosts=2, go=True,
                  options={"grace": 7}) == 75
    ((commands, environments, grace, _),) = calls
    assert commands[0][:5] == [sys.executable, "-P", "-m", "twinscale.common.cli", "train"]
    assert grace == 7 and len(commands) == 2
    assert "12345" not in str(environments)


def test_go_hands_a_script_to_sbatch(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    arguments = dict(backend="jax", run="runs/r", target="slurm", hosts=4, options=SLURM, go=True)
    with pytest.raises(MissingEnvironment, match="sbatch: cannot be run"):
        launch(RECIPE, ["devices.data=0"], **arguments)
    (tmp_path / "sbatch").write_text("#!/bin/bash\ncat\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert launch(RECIPE, ["devices.data=0"], **arguments) == 0
    assert capfd.readouterr().out == (GOLDEN / "launch-slurm-jax.txt").read_text().replace("runs/two", "runs/r")
    (tmp_path / "sbatch").write_text("#!/bin/bash\nexit 6\n")
    with pytest.raises(TwinscaleError, match="sbatch failed with exit code 6"):
        launch(RECIPE, ["devices.data=0"], **arguments)


def test_go_refuses_a_finished_run_once(tmp_path):
    from twinscale.common.recipe.file import load
    from twinscale.common.training.run import open_run
    open_run(tmp_path / "d", load(RECIPE), "jax").close("finished")
    with pytest.raises(BadInput, match="holds a finished run"):
        launch(RECIPE, ["devices.data=2"], backend="jax", run=str(tmp_path / "d"), target="local", hosts=2, go=True)
