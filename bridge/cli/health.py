"""`bootc-py health`: whether the running deployment is good, and what becomes of a bad one."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from bridge.cli import options as shared
from bridge.cli.units import count_text

if TYPE_CHECKING:
    from bridge.sysroot.health import Verdict
    from bridge.sysroot.settings import HealthSettings

FAIL_UNIT = "bootc-py-health-fail.service"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs and their options."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")

    status = verbs.add_parser("status", help="show how the deployments have done")
    status.set_defaults(run=_status)

    begin = verbs.add_parser("begin", help="count this boot; early in each of them")
    begin.set_defaults(run=_begin)

    check = verbs.add_parser("check", help="run the required and the wanted checks")
    check.set_defaults(run=_check)

    hooks = verbs.add_parser("run", help="run what is to be run when the verdict is known")
    hooks.add_argument("verdict", choices=("green", "red"))
    hooks.set_defaults(run=_hooks)

    good = verbs.add_parser("mark-good", help="the running deployment is good, and stays so")
    good.set_defaults(run=_mark_good)

    fail = verbs.add_parser(
        "fail", help="the running deployment is not healthy: reboot, or roll back and reboot"
    )
    fail.add_argument("--no-reboot", action="store_true", help="leave the reboot to others")
    fail.set_defaults(run=_fail)

    arm = verbs.add_parser("arm", help="tell GRUB how many boots the next deployment has")
    arm.set_defaults(run=_arm)

    forget = verbs.add_parser("forget", help="let the timer stage images again that failed")
    forget.add_argument("digests", metavar="DIGEST", nargs="*", help="default: all")
    forget.set_defaults(run=_forget)

    for verb in (status, begin, good, fail, arm, forget):
        shared.add_sysroot(verb)
    for verb in verbs.choices.values():
        shared.add_output(verb)


def _settings() -> HealthSettings:
    from bridge.sysroot import settings

    return settings.load()


def _status(options: argparse.Namespace) -> int:
    from bridge.sysroot import failed_images
    from bridge.sysroot.sysroot import Sysroot
    from bridge.sysroot.trial import Trial

    attempts = _settings().attempts
    with Sysroot.open(options.sysroot) as sysroot:
        deployments = [
            {
                "stateroot": each.stateroot,
                "checksum": each.checksum,
                "serial": each.serial,
                "booted": each.booted,
                "state": (trial := Trial.of(each.origin)).phase.value,
                "boots": trial.boots,
            }
            for each in sysroot.load().deployments
        ]
        failed = failed_images.load(sysroot.repo)
    if options.json:
        _print("Health", attempts=attempts, deployments=deployments, failedImages=list(failed))
        return 0
    for each in deployments:
        state = str(each["state"])
        if state == "trial":
            most = count_text(attempts, "boot") if attempts else "any number of boots"
            state = f"on trial, {each['boots']} of {most}"
        mark = "●" if each["booted"] else " "
        print(f"{mark} {each['stateroot']} {each['checksum']}.{each['serial']}: {state}")
    for digest in failed:
        print(f"  failed here: {digest}")
    return 0


def _begin(options: argparse.Namespace) -> int:
    from bridge.sysroot import health, systemd
    from bridge.sysroot.sysroot import Sysroot
    from bridge.sysroot.trial import Step

    with Sysroot.open(options.sysroot, writable=True) as sysroot:
        verdict = health.begin(sysroot, health.boot_id(), _settings().attempts)
    _show(options, verdict)
    if verdict.step is Step.ROLL_BACK:
        systemd.start(FAIL_UNIT)
    return 0


def _check(options: argparse.Namespace) -> int:
    from bridge.sysroot import checks

    settings = _settings()
    ran: list[dict[str, Any]] = []
    for kind in (checks.Kind.REQUIRED, checks.Kind.WANTED):
        found = checks.programs(kind, settings.disabled_checks)
        for result in checks.run(found, settings.check_timeout):
            required = kind is checks.Kind.REQUIRED
            ran.append(
                {"path": str(result.path), "required": required, "problem": result.problem or None}
            )
            if result.problem:
                what = "error: required check" if required else "warning: wanted check"
                print(f"{what} {result.path}: {result.problem}", file=sys.stderr)
            if result.problem and required:
                _print_checks(options, ran)
                return 1
    _print_checks(options, ran)
    return 0


def _print_checks(options: argparse.Namespace, ran: list[dict[str, Any]]) -> None:
    healthy = not any(each["required"] and each["problem"] for each in ran)
    if options.json:
        _print("HealthCheck", healthy=healthy, checks=ran)
    elif healthy and not options.quiet:
        print(f"healthy: {count_text(len(ran), 'check')}")


def _hooks(options: argparse.Namespace) -> int:
    from bridge.sysroot import checks

    kind = checks.Kind.GREEN if options.verdict == "green" else checks.Kind.RED
    for result in checks.run(checks.programs(kind), _settings().check_timeout):
        if result.problem:
            print(f"warning: {result.path}: {result.problem}", file=sys.stderr)
    return 0


def _mark_good(options: argparse.Namespace) -> int:
    from bridge.sysroot import health
    from bridge.sysroot.sysroot import Sysroot

    with Sysroot.open(options.sysroot, writable=True) as sysroot:
        verdict = health.mark_good(sysroot, _settings().attempts)
    _show(options, verdict)
    return 0


def _fail(options: argparse.Namespace) -> int:
    from bridge.sysroot import health, systemd
    from bridge.sysroot.sysroot import Sysroot
    from bridge.sysroot.trial import Step

    with Sysroot.open(options.sysroot, writable=True) as sysroot:
        verdict = health.fail(sysroot, health.boot_id(), _settings().attempts)
    _show(options, verdict)
    if verdict.problem:
        print(f"warning: {verdict.problem}", file=sys.stderr)
    if verdict.step in (Step.REBOOT, Step.ROLL_BACK) and not options.no_reboot:
        systemd.reboot()
    return 0


def _arm(options: argparse.Namespace) -> int:
    from bridge.sysroot import health
    from bridge.sysroot.sysroot import Sysroot

    with Sysroot.open(options.sysroot, writable=True) as sysroot:
        left = health.arm(sysroot, _settings().attempts)
    if options.json:
        _print("HealthArmed", boots=left)
    elif not options.quiet:
        print("not counted" if left is None else f"counted: {count_text(left, 'boot')} left")
    return 0


def _forget(options: argparse.Namespace) -> int:
    from bridge.sysroot import failed_images
    from bridge.sysroot.sysroot import Sysroot

    with Sysroot.open(options.sysroot, writable=True) as sysroot, sysroot.locked():
        present = failed_images.load(sysroot.repo)
        gone = [each for each in present if not options.digests or each in options.digests]
        failed_images.remove(sysroot.repo, gone)
    if options.json:
        _print("HealthForget", forgotten=gone)
    elif not options.quiet:
        print(f"forgotten: {count_text(len(gone), 'image')}")
    return 0


def _show(options: argparse.Namespace, verdict: Verdict) -> None:
    deployment, target = verdict.deployment, verdict.target
    if options.json:
        _print(
            "HealthVerdict",
            deployment={"checksum": deployment.checksum, "serial": deployment.serial},
            state=verdict.trial.phase.value,
            boots=verdict.trial.boots,
            step=verdict.step.value,
            rollback=target and {"checksum": target.checksum, "serial": target.serial},
        )
    elif not options.quiet:
        state = f"{verdict.trial.phase.value}, {count_text(verdict.trial.boots, 'boot')}"
        following = f"; {target.name} boots next" if target else ""
        print(f"{deployment.name}: {state}; {verdict.step.value}{following}")


def _print(kind: str, **members: object) -> None:
    print(json.dumps({"apiVersion": "bootc-py/v1", "kind": kind, **members}, indent=2))
