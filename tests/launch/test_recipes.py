"""The recipes under launch/, as far as they can be checked without a cloud: fields, commands, numbers."""

import ast
import fnmatch
import importlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import yaml

import gin
from launch import command, configurables, gin_config
from launch.chips import parse_topology
from launch.places import check_places

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*/*.sh"), *LAUNCH.glob("*/*.sbatch")])
SKYPILOT = sorted((LAUNCH / "skypilot").glob("*.yaml"))
JOBSET = LAUNCH / "gke/jobset.yaml"
DOCKERFILE = LAUNCH / "docker/Dockerfile"
TEXTS = [ROOT / "README.md", LAUNCH / "README.md", *SCRIPTS, *SKYPILOT, JOBSET, DOCKERFILE]
TRAINING = [
    path for path in TEXTS if path.name in ("train.sh", "xpk.sh", "train.sbatch", "jobset.yaml")
] + SKYPILOT
WORD = r"""(?:"[^"]*"|'[^']*'|[^\s`|&;#"'])+"""
VALUES = {
    "MODEL": "base_augmented_prompt",
    "NAME": "run",
    "RUN": "run",
    "SHARED": "/bucket",
    "FLAGS": "",
    "HEAD": "10.0.0.1",
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NODE_RANK": "1",
}

# Sources: kubernetes-sigs/jobset, api/jobset/v1alpha2/jobset_types.go; the Kubernetes API reference, batch/v1
# and core/v1; GKE's pages on TPUs (node labels, google.com/tpu) and on the Cloud Storage FUSE CSI driver. A
# tuple lists the values that are allowed, a set of one type says what a mapping's values are, [x] is a list.
POD = {
    "restartPolicy": ("Never", "OnFailure", "Always"),
    "serviceAccountName": str,
    "terminationGracePeriodSeconds": int,
    "nodeSelector": {
        "cloud.google.com/gke-tpu-accelerator": ("tpu-v4-podslice", "tpu-v5-lite-podslice", "tpu-v6e-slice"),
        "cloud.google.com/gke-tpu-topology": str,
        "cloud.google.com/gke-spot": ("true",),
    },
    "tolerations": [
        {
            "key": str,
            "operator": ("Equal", "Exists"),
            "value": str,
            "effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
        }
    ],
    "securityContext": {"runAsUser": int, "runAsGroup": int, "fsGroup": int},
    "containers": [
        {
            "name": str,
            "image": str,
            "command": [str],
            "resources": {"limits": {"google.com/tpu": int}},
            "volumeMounts": [{"name": str, "mountPath": str}],
        }
    ],
    "volumes": [
        {
            "name": str,
            "csi": {
                "driver": ("gcsfuse.csi.storage.gke.io",),
                "volumeAttributes": {"bucketName": str, "mountOptions": str},
            },
        }
    ],
}
JOBSET_SCHEMA = {
    "apiVersion": ("jobset.x-k8s.io/v1alpha2",),
    "kind": ("JobSet",),
    "metadata": {"name": str, "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": str}},
    "spec": {
        "ttlSecondsAfterFinished": int,
        "failurePolicy": {
            "maxRestarts": int,
            "rules": [
                {
                    "name": str,
                    "action": ("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"),
                    "onJobFailureReasons": [("BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy")],
                }
            ],
        },
        "replicatedJobs": [
            {
                "name": str,
                "replicas": int,
                "template": {
                    "spec": {
                        "parallelism": int,
                        "completions": int,
                        "completionMode": ("Indexed", "NonIndexed"),
                        "backoffLimit": int,
                        "podFailurePolicy": {
                            "rules": [
                                {
                                    "action": ("FailJob", "FailIndex", "Ignore", "Count"),
                                    "onExitCodes": {
                                        "containerName": str,
                                        "operator": ("In", "NotIn"),
                                        "values": [int],
                                    },
                                }
                            ]
                        },
                        "template": {
                            "metadata": {"annotations": {"gke-gcsfuse/volumes": ("true",)}},
                            "spec": POD,
                        },
                    }
                },
            }
        ],
    },
}
# Source: skypilot-org/skypilot, sky/utils/schemas.py (task, resources, storage).
SKYPILOT_SCHEMA = {
    "name": str,
    "envs": {str},
    "num_nodes": int,
    "resources": {
        "infra": str,
        "accelerators": str,
        "accelerator_args": {"runtime_version": str},
        "use_spot": bool,
        "job_recovery": {"max_restarts_on_errors": int, "recover_on_exit_codes": [int]},
    },
    "workdir": str,
    "file_mounts": {"/bucket": {"source": str, "mode": ("MOUNT", "COPY", "MOUNT_CACHED")}},
    "setup": str,
    "run": str,
}
SKYPILOT_OPTIONAL = {"num_nodes", "accelerator_args"}
# Source: slurm.schedmd.com/sbatch.html.
SBATCH = {
    "job-name": r"[\w-]+",
    "nodes": r"\d+",
    "gpus-per-node": r"\d+",
    "ntasks-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "time": r"\d+:\d\d:\d\d",
    "signal": r"TERM@\d+",  # with B: it would reach the batch shell alone
    "requeue": "",
    "open-mode": "append|truncate",
    "output": r"[\w%.-]+",
}


def check(value, schema, path="", optional=()):
    """Asserts that a value has the fields of a schema, all of them, and no others."""
    if isinstance(schema, dict):
        assert isinstance(value, dict), f"{path}: {value!r}"
        assert {*value} <= {*schema}, f"{path}: unknown {sorted({*value} - {*schema})}"
        assert {*schema} - {*value} <= {*optional}, f"{path}: missing {sorted({*schema} - {*value})}"
        for name, item in value.items():
            check(item, schema[name], f"{path}.{name}", optional)
    elif isinstance(schema, set):
        (kind,) = schema
        assert all(item is None or isinstance(item, kind) for item in value.values()), path
    elif isinstance(schema, list):
        assert isinstance(value, list), f"{path}: {value!r}"
        assert value, path
        for index, item in enumerate(value):
            check(item, schema[0], f"{path}[{index}]", optional)
    elif isinstance(schema, tuple):
        assert value in schema, f"{path}: {value!r}, expected one of {schema}"
    else:
        assert type(value) is schema, f"{path}: {value!r}, expected {schema.__name__}"


def fill(text):
    """The text with its variables' values; a script's own arguments are none."""
    text = re.sub(r'"\$(?:@|\{@:\d\})"', "", text)
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: VALUES[found[1] or found[2]], text)


def commands(path):
    """The `python -m launch.X ...` lines of a file that give arguments, as (X, arguments)."""
    if path == JOBSET:
        (line,) = (container["command"] for container in pod()["containers"])
        texts = [shlex.join(line)]
    else:
        texts = path.read_text().replace("\\\n", " ").splitlines()
    found = []
    for text in texts:
        for module, rest, behind in re.findall(rf"-m (launch\.\w+)((?: +{WORD})*)(.?)", text):
            assert behind in ("", " ", "`", '"'), f"{path.name}: {text}"
            arguments = shlex.split(fill(rest))
            if any(argument.startswith("--gin_file") for argument in arguments):
                found.append((module, arguments))
    return found


def read(module, arguments, monkeypatch):
    """Reads a command line into gin as that module's main does, and stops there."""
    main = importlib.import_module(module)
    asked = {}
    monkeypatch.setattr("launch.command.run", lambda *given, **more: asked.update(more, argv=given[3]))
    main.main(arguments)
    flags = gin_config.parse_flags(asked["argv"], asked.get("options"), asked.get("bare"))
    gin_config.load(flags, configurables.PARAMETERS, asked.get("unread", ()))
    check_places(gin_config.macros())
    return flags


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    yield
    gin.clear_config()


def pod():
    return yaml.safe_load(JOBSET.read_text())["spec"]["replicatedJobs"][0]["template"]["spec"]["template"][
        "spec"
    ]


def directives():
    """The #SBATCH lines, by name."""
    text = (LAUNCH / "slurm/train.sbatch").read_text()
    return {name: value for name, value in re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE)}


def extras():
    """The names of setup.py's extras."""
    nodes = ast.walk(ast.parse((ROOT / "setup.py").read_text()))
    keywords = (keyword for node in nodes if isinstance(node, ast.Call) for keyword in node.keywords)
    (found,) = (keyword.value for keyword in keywords if keyword.arg == "extras_require")
    return {key.value for key in found.keys}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass_bash_and_shellcheck(path):
    places = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    shellcheck = shutil.which("shellcheck", path=places)
    assert shellcheck, "shellcheck is not installed: pip install -e '.[test]'"
    for tool in (["bash", "-n"], [shellcheck]):
        checked = subprocess.run([*tool, path], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "set -euo pipefail" in path.read_text()
    assert path.suffix == ".sbatch" or os.access(path, os.X_OK)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_command_is_one_that_the_mains_take(path, monkeypatch):
    found = commands(path)
    assert found or path.name in ("Dockerfile", "tpu_vm.sh", "install.sh", "gke.sh")
    for module, arguments in found:
        read(module, arguments, monkeypatch)


@pytest.mark.parametrize(
    "wrong", ["--gin.MODEL_DIRR=x", "--coordinator_adress=auto", "--gin_file=gin/runs/fintune.gin"]
)
def test_a_wrong_command_would_be_found(wrong, monkeypatch):
    ((module, arguments),) = commands(LAUNCH / "tpu_vm/train.sh")
    with pytest.raises(gin_config.ConfigError, match="Did you mean"):
        read(module, [*arguments, wrong], monkeypatch)


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.name)
def test_the_papers_batch_can_be_split_over_the_machines_of_a_recipe(path, monkeypatch):
    text = path.read_text()
    if path == JOBSET:
        devices = pod()["containers"][0]["resources"]["limits"]["google.com/tpu"]
        devices *= yaml.safe_load(text)["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelism"]
    elif path in SKYPILOT:
        task = yaml.safe_load(text)
        devices = int(re.search(r"\d+$", task["resources"]["accelerators"])[0]) * task.get("num_nodes", 1)
    elif path.suffix == ".sbatch":
        devices = int(directives()["nodes"]) * int(directives()["gpus-per-node"])
    else:
        script = LAUNCH / "tpu_vm/tpu_vm.sh" if path.name == "train.sh" else path
        devices = int(re.search(r"ACCELERATOR:-v5litepod-(\d+)", script.read_text())[1])
    ((module, arguments),) = commands(path)
    flags = read(module, arguments, monkeypatch)
    assert flags.options["--coordinator_address"]
    macros = gin_config.macros()
    assert macros["BATCH_SIZE"] % (devices * macros["NUM_MICROBATCHES"]) == 0
    assert macros["EVAL_BATCH_SIZE"] % devices == 0
    assert macros["MODEL_DIR"] == "/bucket/runs/run"


def test_the_jobset_has_the_documented_fields():
    check(yaml.safe_load(JOBSET.read_text()), JOBSET_SCHEMA)


def test_pods_hosts_and_chips_of_the_jobset_agree():
    (replicated,) = yaml.safe_load(JOBSET.read_text())["spec"]["replicatedJobs"]
    job, chips = (
        replicated["template"]["spec"],
        pod()["containers"][0]["resources"]["limits"]["google.com/tpu"],
    )
    selector = pod()["nodeSelector"]
    assert selector["cloud.google.com/gke-tpu-accelerator"] == "tpu-v5-lite-podslice"
    slice_ = parse_topology(f"v5e:{selector['cloud.google.com/gke-tpu-topology']}")
    # A slice of several hosts has four v5e chips on each (ct5lp-hightpu-4t).
    assert chips == 4
    assert replicated["replicas"] == 1
    assert job["parallelism"] == job["completions"] == slice_.size // chips == 4
    assert (job["completionMode"], job["backoffLimit"], pod()["restartPolicy"]) == ("Indexed", 0, "Never")
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [command.EXIT_BAD_CONFIG]
    assert rule["onExitCodes"]["containerName"] == pod()["containers"][0]["name"]
    assert pod()["volumes"][0]["name"] == pod()["containers"][0]["volumeMounts"][0]["name"]


def test_the_variables_of_the_jobset_are_those_that_its_script_fills_in():
    script = (LAUNCH / "gke/gke.sh").read_text()
    (listed,) = re.findall(r"envsubst '([^']*)'", script)
    names = {*re.findall(r"\$\{(\w+)\}", JOBSET.read_text())}
    assert {*listed.replace("$", "").split()} == names == {*re.findall(r"export (\w+)=", script)}


@pytest.mark.parametrize("path", SKYPILOT, ids=lambda path: path.name)
def test_skypilot_tasks_have_the_documented_fields(path):
    task = yaml.safe_load(path.read_text())
    check(task, SKYPILOT_SCHEMA, optional=SKYPILOT_OPTIONAL)
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [128 + signal.SIGTERM]
    assert task["file_mounts"]["/bucket"]["source"] == "gs://${BUCKET}"
    assert task["resources"]["infra"].startswith("gcp/")
    used = {*re.findall(r"\$\{(\w+)\}", task["run"])}
    assert used <= {*task["envs"]}
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_slurm_directives_are_documented_and_give_each_gpu_a_task():
    found = directives()
    assert {*found} == {*SBATCH}
    assert [name for name, value in found.items() if not re.fullmatch(SBATCH[name], value)] == []
    assert found["ntasks-per-node"] == found["gpus-per-node"]
    assert f"SAVED={128 + signal.SIGTERM}" in (LAUNCH / "slurm/train.sbatch").read_text()


def test_the_dockerfile_copies_what_is_there_and_installs_extras_that_exist():
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    kinds = {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "CMD"}
    assert {kind for kind, _ in lines} <= kinds
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignore[0] == "*"
    kept = [line[1:] for line in ignore if line.startswith("!")]
    copied = [source for kind, rest in lines if kind == "COPY" for source in rest.split()[:-1]]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source
    assert {*copied} == {*kept}, "the build context holds what is copied, and no more"
    # What changes seldom comes first: the wheels stay cached when code changes.
    runs = [index for index, (kind, rest) in enumerate(lines) if kind == "RUN" and "${ACCELERATOR}" in rest]
    code = [index for index, (kind, rest) in enumerate(lines) if kind == "COPY" and rest.startswith("richhf")]
    assert len(runs) == 1
    assert runs[0] < code[0]
    assert {"tpu", "cuda", "train"} <= extras()
    assert ".[train,${ACCELERATOR}]" in lines[runs[0]][1]
    assert ["USER", "1000"] in lines
    (version,) = re.findall(r"^ARG PYTHON=3\.(\d+)", text, re.MULTILINE)
    assert 11 <= int(version) < 14


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_extras_named_in_recipes_exist(path):
    named = {name for names in re.findall(r"\.\[([\w,]+)\]", path.read_text()) for name in names.split(",")}
    assert named <= extras()


def test_files_that_the_page_and_the_scripts_name_exist():
    text = (LAUNCH / "README.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (LAUNCH / target).exists() or (LAUNCH / "skypilot" / target).exists(), target
    for path in TEXTS[1:]:
        for named in re.findall(r"(?<![\w/])((?:launch|gin)/[\w/]+\.\w+)", path.read_text()):
            assert (ROOT / named).exists(), f"{path.name}: {named}"
