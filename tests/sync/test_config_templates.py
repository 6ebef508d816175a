"""Go templates, and the names of backups that they make."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.sync.config import backup, go_time, templates
from bridge.sync.config.template_functions import Outside
from bridge.sync.model import Job, Kind, Place

NOW = datetime(2026, 2, 3, 16, 5, 6, 789_000, tzinfo=timezone(timedelta(hours=2), "EET"))
OUTSIDE = Outside({"HOST": "r.local:5000"}.get, {"/token": "secret"}.get, lambda: NOW)  # type: ignore[arg-type]
DATA = {
    "Sync": {"Source": "gcr.io/example/repo", "Tags": {"Allow": ["1", "2"]}, "Empty": ""},
    "Ref": {"Tag": "v1.0", "Registry": "r.local"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain } text {", "plain } text {"),
        ("bkup-{{.Ref.Tag}}", "bkup-v1.0"),
        ("{{ .Ref.Tag }}-{{ .Ref.Registry }}", "v1.0-r.local"),
        ('{{env "HOST"}}/a', "r.local:5000/a"),
        ("{{file `/token`}}", "secret"),
        ('{{ index (split .Sync.Source "gcr.io/") 1 }}', "example/repo"),
        ('{{ join .Sync.Tags.Allow "," }}', "1,2"),
        ("{{ .Ref.Tag | upper }}", "V1.0"),
        ('{{ .Ref.Tag | printf "%s-%s" "old" }}', "old-v1.0"),
        (
            '{{ printf "%04d|%-5s|%5s|%q|%v|%x|%%" 7 "a" "b" "c" true 255 }}',
            '0007|a    |    b|"c"|true|ff|%',
        ),
        ('{{ .Sync.Empty | default "none" }}', "none"),
        ('{{ "x" | default "none" }}', "x"),
        ("a {{- .Ref.Tag -}} b", "av1.0b"),
        ("a {{/* nothing */}} b", "a  b"),
        ("a {{- /* nothing */ -}} b", "ab"),
        ("{{if .Sync.Empty}}a{{else if .Ref.Tag}}b{{else}}c{{end}}", "b"),
        ('{{if eq .Ref.Tag "v1.0" "v2"}}a{{end}}', "a"),
        ('{{if and (ne .Ref.Tag "x") (not .Sync.Empty)}}a{{else}}b{{end}}', "a"),
        ("{{if or .Sync.Empty 0}}a{{else}}b{{end}}", "b"),
        ('{{if lt 1 2}}a{{end}}{{if ge "b" "a"}}b{{end}}', "ab"),
        ('{{ time.Now.Format "20060102-150405" }}', "20260203-160506"),
        ('{{ (time.Now.UTC).Format "2006-01-02T15:04:05Z07:00" }}', "2026-02-03T14:05:06Z"),
        ("{{ time.Now.Unix }}", str(int(NOW.timestamp()))),
        ("{{ time.Now.Year }}-{{ time.Now.Month }}-{{ time.Now.YearDay }}", "2026-February-34"),
        ("{{ time.Now }}", "2026-02-03 16:05:06.789 +0200 EET"),
        ('{{ len "abc" }}{{ len .Sync.Tags.Allow }}', "32"),
        ('{{ slice "abcdef" 1 3 }}', "bc"),
        ('{{ trimSpace "  a " }}{{ lower "A" }}', "aa"),
        ("{{ json .Sync.Tags.Allow }}", '["1","2"]\n'),
        ("{{ .Sync.Tags.Allow }}", "[1 2]"),
        ('{{ print "a" 1 2 "b" }}|{{ println 1 "a" }}', "a1 2b|1 a\n"),
        (r'{{ "a\tb\"\u00e9\x41\101" }}', 'a\tb"éAA'),
        ("{{ `a}}b` }}", "a}}b"),
        ('{{ "}}" }}', "}}"),
        ("{{ $.Ref.Tag }}", "v1.0"),
        ('{{ urlquery "a b" }}', "a+b"),
        ("{{ true }}{{ 1 }}{{ 2.5 }}", "true12.5"),
    ],
)
def test_a_template_is_expanded(text: str, expected: str) -> None:
    assert templates.parse(text).expand(DATA, OUTSIDE) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{",
        "{{}}",
        "{{ }}",
        "{{.Ref.Tag}",
        "{{ .Ref.Tag",
        '{{ "a }}',
        "{{ `a }}",
        '{{ "a\\q" }}',
        "{{ nosuch }}",
        '{{ nosuch "a" }}',
        "{{ .Ref.Nope }}",
        "{{ .Nope }}",
        "{{ .Ref.Tag.Nope }}",
        "{{ .Ref }}",
        "{{ . }}",
        "{{ nil }}",
        "{{ range .Sync.Tags.Allow }}x{{ end }}",
        "{{ with .Ref }}x{{ end }}",
        '{{ define "x" }}{{ end }}',
        '{{ template "x" }}',
        '{{ block "x" . }}{{ end }}',
        "{{ $x := 1 }}",
        "{{ $x }}",
        "{{ if }}a{{ end }}",
        "{{ if true }}a",
        "{{ end }}",
        "{{ else }}",
        "{{ if true }}a{{ else }}b{{ else }}c{{ end }}",
        "{{ if true }}a{{ else with .Ref }}c{{ end }}",
        "{{ (1 }}",
        "{{ 1) }}",
        "{{ | upper }}",
        "{{ .Ref.Tag | }}",
        '{{ "a" "b" }}',
        '{{ .Ref.Tag "b" }}',
        '{{ .Ref.Tag | "x" }}',
        "{{ upper }}",
        "{{ upper 1 }}",
        '{{ env }}{{ env "a" "b" }}',
        "{{ file 1 }}",
        '{{ index (split "a" "b") 7 }}',
        '{{ slice "abc" 2 1 }}',
        '{{ printf "%s" }}',
        '{{ printf "%s" "a" "b" }}',
        '{{ printf "%!" 1 }}',
        '{{ printf "%d" "a" }}',
        '{{ eq 1 "a" }}',
        "{{ time }}",
        '{{ time.Parse "2006" "2020" }}',
        "{{ time.Now.Nope }}",
        "{{ time.Now.Format }}",
        '{{ time.Now "x" }}',
        "{{ 'a' }}",
        "{{ 1x }}",
        "{{" + "(" * 40 + "1" + ")" * 40 + "}}",
        "{{ if true }}" * 40 + "{{ end }}" * 40,
        "a" * 70_000,
        '{{ join (split "' + "a" * 30_000 + '" "") "xx" }}',
        ('{{ join (split "' + "a" * 20_000 + '" "") "x" }}') * 2,
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        templates.parse(text).expand(DATA, OUTSIDE)
    assert len(str(caught.value)) < 600


@given(st.text('{}.-Ref|()"` Tagifelsend01$%', max_size=40))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        templates.parse(text).expand(DATA, OUTSIDE)


@given(st.text(max_size=40).filter(lambda text: "{{" not in text))
def test_text_without_actions_stays(text: str) -> None:
    assert templates.parse(text).expand({}, OUTSIDE) == text


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("2006-01-02T15:04:05.000Z07:00", "2026-02-03T16:05:06.789+02:00"),
        ("Mon, 02 Jan 2006 15:04:05 MST", "Tue, 03 Feb 2026 16:05:06 EET"),
        ("Monday January _2 06 3:04PM", "Tuesday February  3 26 4:05PM"),
        ("1/2 03:04:05 pm", "2/3 04:05:06 pm"),
        ("002 Z0700 -07", "034 +0200 +02"),
        (".999999999 .00", ".789 .78"),
        ("version 7", "version 7"),
    ],
)
def test_layouts(layout: str, expected: str) -> None:
    assert go_time.format_time(NOW, layout) == expected


def test_a_time_in_utc_says_z() -> None:
    assert go_time.format_time(NOW.astimezone(UTC), "15:04Z07:00 -0700") == "14:05Z +0000"


TARGET = Place(Kind.IMAGE, "r.local:5000/os/name", "42")
LAYOUT = Place(Kind.LAYOUT, "/srv/mirror", "42")


@pytest.mark.parametrize(
    ("template", "target", "expected"),
    [
        ("old-{{.Ref.Tag}}", TARGET, Place(Kind.IMAGE, "r.local:5000/os/name", "old-42")),
        (" old \n", TARGET, Place(Kind.IMAGE, "r.local:5000/os/name", "old")),
        (
            "{{.Ref.Registry}}/backup/{{.Ref.Repository}}:{{.Ref.Tag}}",
            TARGET,
            Place(Kind.IMAGE, "r.local:5000/backup/os/name", "42"),
        ),
        ("{{.Ref.CommonName}}-old", TARGET, Place(Kind.IMAGE, "r.local:5000/os/name", "42-old")),
        (
            '{{.Ref.Tag}}-{{time.Now.Format "20060102"}}',
            TARGET,
            Place(Kind.IMAGE, "r.local:5000/os/name", "42-20260203"),
        ),
        ("{{.Step.Type}}-{{.Sync.Type}}", TARGET, Place(Kind.IMAGE, TARGET.name, "image-image")),
        ("old-{{.Ref.Tag}}", LAYOUT, Place(Kind.LAYOUT, "/srv/mirror", "old-42")),
    ],
)
def test_where_a_backup_goes(template: str, target: Place, expected: Place) -> None:
    job = Job("name", TARGET, TARGET, backup=template)
    assert backup.place(job, target, lambda: NOW) == expected


def test_a_job_without_a_backup_has_none() -> None:
    assert backup.place(Job("name", TARGET, TARGET), TARGET, lambda: NOW) is None


@pytest.mark.parametrize(
    ("template", "target"),
    [
        ("", TARGET),
        ("a b", TARGET),
        ("-{{.Ref.Tag}}", TARGET),
        ("r.local/A:1", TARGET),
        ("r.local/a@sha256:" + "0" * 64, TARGET),
        ("r.local/a:1", LAYOUT),
        ("{{.Ref.Path}}", LAYOUT),
    ],
)
def test_what_is_no_backup(template: str, target: Place) -> None:
    with pytest.raises(UsageError):
        backup.place(Job("name", TARGET, TARGET, backup=template), target, lambda: NOW)


def test_templates_reach_files_and_variables_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("  secret \n")
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    monkeypatch.setenv("SYNC_TEST", "value")
    outside = backup.outside(lambda: NOW)
    text = f'{{{{env "SYNC_TEST"}}}}|{{{{file "{tmp_path}/token"}}}}|'
    text += (
        f'{{{{file "{tmp_path}/missing"}}}}|{{{{file "{tmp_path}/large"}}}}|{{{{env "SYNC_NO"}}}}'
    )
    assert templates.parse(text).expand({}, outside) == "value|secret|||"
