"""`bootc-py sync manifest`: what runs sync jobs on Kubernetes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", metavar="CONFIG", help="the configuration that goes along")
    parser.add_argument("--image", required=True, help="an image that has bootc-py in it")
    parser.add_argument(
        "--shards", type=int, default=1, metavar="N", help="pods at once (default: %(default)s)"
    )
    parser.add_argument("--name", default="bootc-py-sync", help="default: %(default)s")
    parser.add_argument("--namespace", help="default: that of kubectl's context")
    parser.add_argument(
        "--schedule", default="0 3 * * *", help="when, as cron has it (default: %(default)r)"
    )
    parser.add_argument("--time-zone", metavar="ZONE", help="of the schedule, as Europe/Berlin")
    parser.add_argument(
        "--secret",
        metavar="NAME",
        help="a secret with registries' credentials, of the type kubernetes.io/dockerconfigjson",
    )
    parser.add_argument(
        "--secret-files",
        action="append",
        default=[],
        metavar="NAME",
        help="a secret whose keys become files in /etc/bootc-py/secrets/NAME",
    )
    parser.add_argument(
        "--secret-env",
        action="append",
        default=[],
        metavar="NAME",
        help="a secret whose keys become environment variables",
    )
    parser.add_argument(
        "--state-claim", metavar="NAME", help="a PersistentVolumeClaim that keeps state"
    )
    skopeo = parser.add_argument_group("for skopeo's files, which name no target")
    skopeo.add_argument("--dest", metavar="PLACE", help="registry[/path]")
    skopeo.add_argument(
        "--scoped", action="store_true", help="put the source's host and path before names"
    )
    skopeo.add_argument("--append-suffix", metavar="TEXT", default="", help="add this to each tag")
    shared.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Look whether the configuration is one, and print the manifests."""
    import json

    from bridge.sync import kubernetes
    from bridge.sync.config import load

    config = load(
        options.config,
        target=options.dest,
        scoped=options.scoped,
        suffix=options.append_suffix,
        with_secrets=False,
    )
    for note in kubernetes.notes(config):
        print(f"note: {note}", file=sys.stderr)
    arguments = [f"--dest={options.dest}"] if options.dest else []
    arguments += ["--scoped"] if options.scoped else []
    arguments += [f"--append-suffix={options.append_suffix}"] if options.append_suffix else []
    documents = kubernetes.manifests(
        kubernetes.Wanted(
            image=options.image,
            config=Path(options.config).read_text("utf-8-sig"),
            shards=options.shards,
            name=options.name,
            namespace=options.namespace,
            schedule=options.schedule,
            time_zone=options.time_zone,
            auth_secret=options.secret,
            file_secrets=tuple(options.secret_files),
            environment_secrets=tuple(options.secret_env),
            state_claim=options.state_claim,
            arguments=tuple(arguments),
        )
    )
    if options.json:
        listed = {"apiVersion": "v1", "kind": "List", "items": documents}
        print(json.dumps(listed, indent=2))
    else:
        print(kubernetes.to_yaml(documents), end="")
    return 0
