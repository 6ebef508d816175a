"""The CI jobs to copy, and the commands in the examples' documentation, are ones that work."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.cli import main as cli

TOP = Path(__file__).parents[2]
GITHUB = TOP / "docs/ci/github.yml"
GITLAB = TOP / "docs/ci/gitlab.yml"
GUIDES = [TOP / "docs/ci/README.md", TOP / "containerfiles/README.md"]
# Ends a command in the shell, where it is a word of its own.
END = {"|", "||", "&&", ";", "&"}


@dataclass(frozen=True)
class Use:
    """A command as it is written somewhere: `("image", "diff")` and its options."""

    where: str
    words: tuple[str, ...]
    options: frozenset[str]

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


def document(path: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text())
    return loaded


def github_scripts() -> Iterator[str]:
    for job in document(GITHUB)["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                # What GitHub fills in before the shell sees it.
                yield re.sub(r"\$\{\{.*?\}\}", "value", step["run"])


def gitlab_scripts() -> Iterator[str]:
    job = document(GITLAB)["os-image"]
    yield "\n".join([*job["before_script"], *job["script"]])


def guide_scripts(path: Path) -> Iterator[str]:
    text = path.read_text()
    yield from re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    # Of inline code just what is a whole command.
    yield from re.findall(r"`(bootc-py [^`]*)`", text)


SCRIPTS = [
    *(pytest.param(script, id=f"github-{n}") for n, script in enumerate(github_scripts())),
    *(pytest.param(script, id=f"gitlab-{n}") for n, script in enumerate(gitlab_scripts())),
]


def commands(where: str, script: str) -> Iterator[Use]:
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        words = list(lexer)
        for at, word in enumerate(words):
            # Where a shell looks for a command: not in a path, not an argument.
            if word != "bootc-py" or (at and words[at - 1] not in {*END, "then", "sudo"}):
                continue
            rest = words[at + 1 :]
            ends = [n for n, each in enumerate(rest) if each in END]
            rest = rest[: ends[0]] if ends else rest
            plain = [each for each in rest if not each.startswith("-")]
            two = plain[0] in {"image", "container", "install", "health", "sync"}
            options = {each.split("=")[0] for each in rest if each.startswith("-") and each != "--"}
            yield Use(where, tuple(plain[: 2 if two else 1]), frozenset(options))


def every_use() -> Iterator[Use]:
    for where, scripts in (
        ("github.yml", list(github_scripts())),
        ("gitlab.yml", list(gitlab_scripts())),
        *((str(path.relative_to(TOP)), list(guide_scripts(path))) for path in GUIDES),
    ):
        for script in scripts:
            yield from commands(where, script)


def help_of(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str | None:
    """What `--help` says of a command; None if there is no such command."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    captured = capsys.readouterr()
    # A parser that does not know a word says so with a usage error.
    return captured.out if ended.value.code == 0 else None


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_shell_reads_every_script(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", [GITHUB, GITLAB], ids=lambda path: path.stem)
def test_a_job_builds_lints_compares_and_publishes_in_that_order(path: Path) -> None:
    scripts = github_scripts() if path == GITHUB else gitlab_scripts()
    found = [use.words for script in scripts for use in commands(path.name, script)]
    assert found == [("build",), ("container", "lint"), ("image", "diff"), ("publish",)]


@pytest.mark.parametrize("use", list(every_use()), ids=str)
def test_commands_have_the_options_they_are_given(
    use: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(use.words, capsys)
    if text is None:
        pytest.skip(f"there is no {' '.join(use.words)} yet")
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
    assert use.options - known == set()


def test_github_fills_in_what_its_steps_read() -> None:
    """No step reads a variable that neither the file nor GitHub sets."""
    jobs = document(GITHUB)
    steps = jobs["jobs"]["image"]["steps"]
    for step in steps:
        given = {*jobs["env"], *step.get("env", {}), "PATH"}
        script = step.get("run", "")
        used = set(re.findall(r"\$\{?([A-Z_]+)", script)) - set(re.findall(r"([A-Z_]+)=", script))
        assert {
            name for name in used - given if not name.startswith(("GITHUB_", "RUNNER_"))
        } == set()


def test_every_example_is_documented() -> None:
    text = (TOP / "containerfiles/README.md").read_text()
    for name in ("base", "server", "desktop"):
        assert (TOP / "containerfiles" / name / "Containerfile").is_file()
        assert f"\n## {name}" in text.lower()
