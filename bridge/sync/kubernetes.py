"""Manifests for Kubernetes: a CronJob of an Indexed Job whose pods are the shards of a sync.

Values in, YAML out; nothing is sent anywhere. Kubernetes' reference of batch/v1 and of the pod
security standard "restricted" say what the fields mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from bridge import limits
from bridge.errors import UsageError
from bridge.sync import cron
from bridge.sync.extra import extra
from bridge.sync.model import REGISTRIES, Config
from bridge.sync.shard import COUNT_VARIABLE, INDEX_VARIABLE

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,1023}")
_NAME_LENGTH = 52
"""Characters of a CronJob's name: eleven more make the Job's."""
_USER = 65532
"""Nobody in particular, and not root: the number that images without a shell use."""
_CONFIG = "/etc/bootc-py/sync"
_AUTH = "/etc/bootc-py/auth"
_SECRETS = "/etc/bootc-py/secrets"
_STATE = "/var/lib/bootc-py"
_TMP = "/tmp"
_INDEX = "batch.kubernetes.io/job-completion-index"
"""The annotation in which Kubernetes numbers pods."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `sync manifest` was asked for."""

    image: str
    """With `bootc-py` as its entry point, or on its path."""
    config: str
    """The content of the configuration."""
    file: str = "sync.yaml"
    """What it is called in the pod."""
    shards: int = 1
    name: str = "bootc-py-sync"
    namespace: str | None = None
    schedule: str = "0 3 * * *"
    time_zone: str | None = None
    auth_secret: str | None = None
    """A secret of the type kubernetes.io/dockerconfigjson: credentials of registries."""
    file_secrets: tuple[str, ...] = ()
    """Secrets whose keys become files below `/etc/bootc-py/secrets/NAME`."""
    environment_secrets: tuple[str, ...] = ()
    """Secrets whose keys become environment variables."""
    state_claim: str | None = None
    """A PersistentVolumeClaim for the state; without one, each run asks the registries."""
    arguments: tuple[str, ...] = field(default_factory=tuple)
    """More for `sync once`."""


def manifests(wanted: Wanted) -> list[dict[str, Any]]:
    """Return the ConfigMap and the CronJob; raises `UsageError` for what cannot be in them."""
    _check(wanted)
    return [_config_map(wanted), _cron_job(wanted)]


def notes(config: Config) -> list[str]:
    """Return what of a configuration will not be in a pod as it is on this machine."""
    found = list(config.notes)
    for job in config.jobs:
        for place in (job.source, job.target):
            if place.kind not in REGISTRIES:
                found.append(
                    f"job {job.name!r}: {place} is a path in the pod; mount a volume there"
                )
    if any(job.schedule.cron or job.schedule.interval for job in config.jobs):
        found.append("the times of jobs are for `sync server`; here all run at the CronJob's")
    return found


def to_yaml(documents: list[dict[str, Any]]) -> str:
    """Return the documents as `kubectl apply -f -` reads them."""
    yaml = extra("yaml")

    class Dumper(yaml.SafeDumper):  # type: ignore[name-defined, misc]
        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    made: str = yaml.dump_all(
        documents, Dumper=Dumper, sort_keys=False, explicit_start=True, allow_unicode=True
    )
    return made


def _check(wanted: Wanted) -> None:
    if not _LABEL.fullmatch(wanted.name) or len(wanted.name) > _NAME_LENGTH:
        raise UsageError(
            f"{wanted.name!r:.100} is not a CronJob's name: up to {_NAME_LENGTH} lower-case "
            "letters, digits and '-'"
        )
    if not 1 <= wanted.shards <= limits.SYNC_SHARDS_MAX:
        raise UsageError(f"{wanted.shards} shards: there are from 1 to {limits.SYNC_SHARDS_MAX}")
    cron.parse(wanted.schedule)
    if wanted.schedule.startswith(("TZ=", "CRON_TZ=", "@every")):
        raise UsageError(
            f"{wanted.schedule!r:.100}: Kubernetes wants five fields here; a time zone is given "
            "with --time-zone"
        )
    if wanted.time_zone is not None:
        cron.parse(f"TZ={wanted.time_zone} * * * * *")
    if wanted.namespace is not None and not _LABEL.fullmatch(wanted.namespace):
        raise UsageError(f"{wanted.namespace!r:.100} is not the name of a namespace")
    if not _IMAGE.fullmatch(wanted.image):
        raise UsageError(f"{wanted.image!r:.200} is not the name of an image")
    named = (wanted.auth_secret, *wanted.file_secrets, *wanted.environment_secrets)
    for each in (*named, wanted.state_claim):
        if each is not None and not _SUBDOMAIN.fullmatch(each):
            raise UsageError(f"{each!r:.100} is not the name of a secret or a claim")


def _labels(wanted: Wanted) -> dict[str, str]:
    return {"app.kubernetes.io/name": "bootc-py-sync", "app.kubernetes.io/instance": wanted.name}


def _metadata(wanted: Wanted) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": wanted.name}
    if wanted.namespace is not None:
        metadata["namespace"] = wanted.namespace
    return {**metadata, "labels": _labels(wanted)}


def _config_map(wanted: Wanted) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(wanted),
        "data": {wanted.file: wanted.config},
    }


def _cron_job(wanted: Wanted) -> dict[str, Any]:
    spec: dict[str, Any] = {"schedule": wanted.schedule}
    if wanted.time_zone is not None:
        spec["timeZone"] = wanted.time_zone
    spec |= {
        # A run that has not ended goes on; the next one finds what it left.
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"metadata": {"labels": _labels(wanted)}, "spec": _job(wanted)},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _metadata(wanted),
        "spec": spec,
    }


def _job(wanted: Wanted) -> dict[str, Any]:
    return {
        "completionMode": "Indexed",
        "completions": wanted.shards,
        "parallelism": wanted.shards,
        # One shard that fails keeps no other from being done, and is tried again by itself.
        "backoffLimitPerIndex": 2,
        "maxFailedIndexes": wanted.shards,
        "podFailurePolicy": {
            "rules": [
                # 2: what is configured is wrong, and will be.
                {
                    "action": "FailIndex",
                    "onExitCodes": {
                        "containerName": "sync",
                        "operator": "In",
                        "values": [2],
                    },
                },
                # A node that is drained is no failure of the shard's.
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
            ]
        },
        "ttlSecondsAfterFinished": 7 * 24 * 3600,
        "template": {"metadata": {"labels": _labels(wanted)}, "spec": _pod(wanted)},
    }


def _pod(wanted: Wanted) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(wanted)],
        "volumes": _volumes(wanted),
    }


def _container(wanted: Wanted) -> dict[str, Any]:
    arguments = ["sync", "once", f"{_CONFIG}/{wanted.file}", "--state", f"{_STATE}/sync"]
    container: dict[str, Any] = {
        "name": "sync",
        "image": wanted.image,
        "command": ["bootc-py"],
        "args": [*arguments, *wanted.arguments],
        "env": [
            {
                "name": INDEX_VARIABLE,
                "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{_INDEX}']"}},
            },
            {"name": COUNT_VARIABLE, "value": str(wanted.shards)},
            {"name": "HOME", "value": _STATE},
            {"name": "TMPDIR", "value": _TMP},
        ],
    }
    if wanted.auth_secret is not None:
        container["env"].append({"name": "REGISTRY_AUTH_FILE", "value": f"{_AUTH}/config.json"})
    if wanted.environment_secrets:
        container["envFrom"] = [
            {"secretRef": {"name": name}} for name in wanted.environment_secrets
        ]
    container |= {
        "resources": {
            "requests": {"cpu": "250m", "memory": "256Mi", "ephemeral-storage": "1Gi"},
            "limits": {"memory": "1Gi", "ephemeral-storage": "20Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": _mounts(wanted),
    }
    return container


def _mounts(wanted: Wanted) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": _CONFIG, "readOnly": True},
        {"name": "tmp", "mountPath": _TMP},
    ]
    state: dict[str, Any] = {"name": "state", "mountPath": _STATE}
    if wanted.state_claim is not None:
        # Shards share a claim, but no file in it.
        state["subPathExpr"] = f"shard-$({INDEX_VARIABLE})"
    mounts.append(state)
    if wanted.auth_secret is not None:
        mounts.append({"name": "auth", "mountPath": _AUTH, "readOnly": True})
    for number, name in enumerate(wanted.file_secrets):
        mounts.append(
            {"name": f"secret-{number}", "mountPath": f"{_SECRETS}/{name}", "readOnly": True}
        )
    return mounts


def _volumes(wanted: Wanted) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": wanted.name}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "20Gi"}},
    ]
    if wanted.state_claim is None:
        volumes.append({"name": "state", "emptyDir": {"sizeLimit": "1Gi"}})
    else:
        claim = {"claimName": wanted.state_claim}
        volumes.append({"name": "state", "persistentVolumeClaim": claim})
    if wanted.auth_secret is not None:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        secret = {"secretName": wanted.auth_secret, "defaultMode": 0o440, "items": items}
        volumes.append({"name": "auth", "secret": secret})
    for number, name in enumerate(wanted.file_secrets):
        secret = {"secretName": name, "defaultMode": 0o440}
        volumes.append({"name": f"secret-{number}", "secret": secret})
    return volumes
