"""Manifests: by Kubernetes' own schemas, and by what they have to promise."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bridge.cli import sync_manifest
from bridge.errors import ConfigurationError, UsageError
from bridge.sync import kubernetes, shard

CONFIG = 'version: 1\njobs:\n- {name: a, source: quay.io/a/b, target: r.local/a}  # "é"\t\n'
LEAST = kubernetes.Wanted(image="quay.io/me/bootc-py:1", config=CONFIG)
MOST = kubernetes.Wanted(
    image="r.local:5000/me/bootc-py@sha256:" + "0" * 64,
    config=CONFIG,
    shards=7,
    name="mirror",
    namespace="sync",
    schedule="15 3 * * mon-fri",
    time_zone="Europe/Berlin",
    auth_secret="registries",
    file_secrets=("passwords", "more.passwords"),
    environment_secrets=("variables",),
    state_claim="state",
    arguments=("--scoped",),
)
VERSIONS = ["1.29", "1.31", "1.33", "1.35", "1.37"]


def cron_job(wanted: kubernetes.Wanted) -> dict[str, Any]:
    return kubernetes.manifests(wanted)[1]


def pod(wanted: kubernetes.Wanted) -> dict[str, Any]:
    found: dict[str, Any] = cron_job(wanted)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wanted", [LEAST, MOST], ids=["least", "most"])
def test_manifests_are_valid(wanted: kubernetes.Wanted, version: str) -> None:
    documents = list(yaml.safe_load_all(kubernetes.to_yaml(kubernetes.manifests(wanted))))
    assert documents == kubernetes.manifests(wanted)
    assert [document["kind"] for document in documents] == ["ConfigMap", "CronJob"]
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_schema_finds_what_is_wrong() -> None:
    broken = cron_job(LEAST)
    broken["spec"]["jobTemplate"]["spec"]["completions"] = "many"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.33", strict=True)
    unknown = cron_job(LEAST)
    unknown["spec"]["jobTemplate"]["spec"]["shards"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(unknown, "1.33", strict=True)


def test_the_configuration_is_in_it_byte_for_byte() -> None:
    text = kubernetes.to_yaml(kubernetes.manifests(MOST))
    config_map = next(yaml.safe_load_all(text))
    assert config_map["data"] == {"sync.yaml": CONFIG}
    assert config_map["metadata"]["name"] == "mirror"
    assert config_map["metadata"]["namespace"] == "sync"


def test_each_shard_is_a_pod_that_knows_which() -> None:
    spec = cron_job(MOST)["spec"]
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert (spec["schedule"], spec["timeZone"]) == ("15 3 * * mon-fri", "Europe/Berlin")
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 7, 7)
    assert (job["backoffLimitPerIndex"], job["maxFailedIndexes"]) == (2, 7)
    (container,) = pod(MOST)["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    environment[shard.INDEX_VARIABLE] = "6"
    assert shard.parse(None, environment) == (6, 7)
    assert container["args"] == [
        "sync",
        "once",
        "/etc/bootc-py/sync/sync.yaml",
        "--state",
        "/var/lib/bootc-py/sync",
        "--scoped",
    ]


@pytest.mark.parametrize("wanted", [LEAST, MOST], ids=["least", "most"])
def test_pods_may_do_little(wanted: kubernetes.Wanted) -> None:
    spec = pod(wanted)
    (container,) = spec["containers"]
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"] and container["resources"]["limits"]
    names = {volume["name"] for volume in spec["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert names == set(mounts)
    written = {name for name, mount in mounts.items() if not mount.get("readOnly")}
    assert written == {"tmp", "state"}


def test_credentials_are_references() -> None:
    spec = pod(MOST)
    (container,) = spec["containers"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert volumes["auth"]["secret"]["secretName"] == "registries"
    assert volumes["auth"]["secret"]["items"] == [
        {"key": ".dockerconfigjson", "path": "config.json"}
    ]
    assert {"name": "REGISTRY_AUTH_FILE", "value": f"{mounts['auth']}/config.json"} in container[
        "env"
    ]
    assert mounts["secret-1"] == "/etc/bootc-py/secrets/more.passwords"
    assert container["envFrom"] == [{"secretRef": {"name": "variables"}}]
    assert volumes["state"]["persistentVolumeClaim"] == {"claimName": "state"}
    assert "REGISTRY_AUTH_FILE" not in json.dumps(pod(LEAST))
    assert "secret" not in json.dumps(pod(LEAST))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Mirror"},
        {"name": "a" * 53},
        {"name": ""},
        {"namespace": "a.b"},
        {"image": ""},
        {"image": "a b"},
        {"image": "$(X)"},
        {"shards": 0},
        {"shards": 1001},
        {"schedule": "sometimes"},
        {"schedule": "@every 1h"},
        {"schedule": "TZ=UTC 0 3 * * *"},
        {"time_zone": "Nowhere/Land"},
        {"auth_secret": "A"},
        {"file_secrets": ("a/b",)},
        {"environment_secrets": ("",)},
        {"state_claim": "../x"},
    ],
    ids=str,
)
def test_what_kubernetes_would_refuse_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        kubernetes.manifests(replace(LEAST, **change))


def run(directory: Path, config: str, *words: str) -> int:
    path = directory / "sync.yaml"
    path.write_text(config)
    parser = argparse.ArgumentParser()
    sync_manifest.configure(parser)
    options = parser.parse_args([str(path), "--image", "quay.io/me/bootc-py:1", *words])
    code: int = options.run(options)
    return code


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--shards", "4", "--schedule", "0 4 * * *", "--namespace", "sync"]
    words += ["--secret", "registries"]
    config = (
        CONFIG + "registries: {quay.io: {username: a, password-file: /etc/bootc-py/secrets/q}}\n"
    )
    assert run(tmp_path, config, *words, "--secret-files", "q") == 0
    out, err = capsys.readouterr()
    config_map, job = yaml.safe_load_all(out)
    assert config_map["data"]["sync.yaml"] == config
    assert job["spec"]["schedule"] == "0 4 * * *"
    assert err == ""
    assert run(tmp_path, CONFIG, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [item["kind"] for item in listed["items"]] == ["ConfigMap", "CronJob"]


def test_what_is_another_thing_in_a_pod_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = "version: 1\njobs:\n- {name: a, source: q.io/a, target: 'oci:/x', interval: 1h}\n"
    assert run(tmp_path, config) == 0
    notes = capsys.readouterr().err.splitlines()
    assert notes == [
        "note: job 'a': oci:/x is a path in the pod; mount a volume there",
        "note: the times of jobs are for `sync server`; here all run at the CronJob's",
    ]


def test_a_wrong_configuration_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"sync\.yaml:1: no jobs"):
        run(tmp_path, "version: 1\n")


def test_skopeos_files_go_along_with_their_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "q.io: {images: {a: []}}\n", "--dest", "r.local/x", "--scoped") == 0
    _, job = yaml.safe_load_all(capsys.readouterr().out)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--dest=r.local/x", "--scoped"]
