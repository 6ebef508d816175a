"""`bootc-py kargs`: the kernel arguments of what boots next, shown and changed."""

from __future__ import annotations

import argparse
import json

from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    shared.add_sysroot(parser)
    group = parser.add_argument_group("changes", "made in this order; each may be given repeatedly")
    group.add_argument("--delete", action="append", default=[], metavar="KEY[=VALUE]")
    group.add_argument("--replace", action="append", default=[], metavar="KEY=VALUE")
    group.add_argument("--append", action="append", default=[], metavar="ARG")
    shared.add_apply(parser)
    shared.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Change what is to be changed, and show what there is then."""
    from bridge.sysroot import change_kargs

    shared.check_apply(options)
    changes = change_kargs.Changes(options.delete, options.replace, options.append)
    done = change_kargs.change(options.sysroot, changes)
    if options.json:
        document = {
            "apiVersion": "bootc-py/v1",
            "kind": "KernelArguments",
            "changed": done.changed,
            "kargs": list(done.arguments),
            "deployment": {
                "checksum": done.deployment.checksum,
                "serial": done.deployment.serial,
                "staged": done.deployment.staged,
            },
        }
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        print(" ".join(done.arguments))
    shared.apply(options)
    return 0
