"""YAML by the core schema of YAML 1.2 (yaml.org/spec/1.2.2, section 10.3.2), and its errors in one sentence each."""

from __future__ import annotations

import math
import random

import pytest
import yaml

from segctl.config.yaml_core import parse, read, scalar, write
from segctl.errors import ConfigError

# Text, what YAML 1.2 means by it. Examples 10.9 of the specification are among them.
SCALARS = [
    ("1e-3", 0.001),
    ("1E4", 10000.0),
    ("12e03", 12000.0),
    ("-2E+05", -200000.0),
    ("0.", 0.0),
    (".5", 0.5),
    ("+.5", 0.5),
    ("-.inf", -math.inf),
    (".INF", math.inf),
    ("0", 0),
    ("010", 10),
    ("0o7", 7),
    ("0x3A", 58),
    ("-19", -19),
    ("true", True),
    ("FALSE", False),
    ("on", "on"),
    ("off", "off"),
    ("yes", "yes"),
    ("No", "No"),
    ("~", None),
    ("null", None),
    ("NULL", None),
    ("1:30", "1:30"),
    ("2024-01-01", "2024-01-01"),
    ("1_000", "1_000"),
    ("0b1", "0b1"),
    ("e3", "e3"),
    ("1e", "1e"),
    (".", "."),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_mean_what_yaml_1_2_says_in_files_and_on_the_command_line(text, value):
    for result in (parse(f"key: {text}", "a.yaml")["key"], scalar(text)):
        assert result == value
        assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[256, 320]", [256, 320]),
        ("[a, 1e-3, off]", ["a", 0.001, "off"]),
        ("{name: fcn, width: 2}", {"name": "fcn", "width": 2}),
        ("'007'", "007"),
        ('"a\\tb"', "a\tb"),
        ("", None),
        ("[256,", "[256,"),
        ("a: b", "a: b"),
        ("a #b", "a #b"),
        ("- x", "- x"),
        ("*x", "*x"),
        ("!!python/name:os.system", "!!python/name:os.system"),
        ("C:\\data", "C:\\data"),
    ],
)
def test_values_of_the_command_line_are_taken_whole(text, value):
    assert scalar(text) == value


def test_anchors_and_merged_keys_work():
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}\n"

    assert parse(text, "a.yaml")["other"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1", "a.yaml:2:1: the line is indented with a tab."),
        ("a:\n  b: 1\n  \tc: 2", "a.yaml:3:3: the line is indented with a tab."),
        ("a: 1\nb: 2\na: 3", "a.yaml:3:1: the key 'a' occurs twice."),
        ("t: {x: 1, x: 1}", "a.yaml:1:11: the key 'x' occurs twice."),
        ("a: 1\n---\nb: 2", "a.yaml:2:1: a second document begins here."),
        ("a: b: c", "a.yaml:1:5: this is not YAML: mapping values are not allowed in this context."),
        ("a: @x", "a.yaml:1:4: this is not YAML: found character that cannot start any token."),
        ("a: *x", "a.yaml:1:4: this is not YAML: found undefined alias."),
    ],
)
def test_syntax_errors_name_file_line_and_column(text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text, "a.yaml")

    assert caught.value.message == message


def test_python_objects_are_not_made():
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        parse("a: !!python/object/apply:os.getcwd []", "a.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "is not a configuration: it holds list, not sections such as `model:` and `train:`."),
        (b"just text", "is not a configuration: it holds str, not sections such as `model:` and `train:`."),
        (b"1: a\n", "is not a configuration: it holds keys that are not names"),
        (b"name: \xff\n", "is not UTF-8 text (byte 6)."),
        (b"name: a\x00b\n", "is not YAML: unacceptable character"),
    ],
)
def test_files_that_are_no_configuration_are_refused(content, message, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        read(path)
    assert f"{path} {message}" in caught.value.message


def test_missing_files_and_folders_are_refused_and_empty_files_are_not(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")

    assert read(tmp_path / "empty.yaml") == {}
    with pytest.raises(ConfigError, match="There is no file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read(tmp_path)


TRICKY = [
    *("off", "yes", "true", "null", "~", "", "1e-3", "010", "0o7", "1_000", "1:30", "2024-01-01", "<<", "="),
    *(" x ", "a: b", "a #b", "- a", "[", "%", "@", "'", '"', "\\", "x" * 300),
    *("é😀", "\x85", "\u2028", "\x07", "line\nline\n"),
]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_read_back_exactly_also_by_yaml_1_1(seed):
    generator = random.Random(seed)

    def value(depth):
        kind = generator.randrange(8 if depth else 6)
        if kind == 0:
            return generator.choice([True, False, None])
        if kind == 1:
            return generator.randrange(-(10**12), 10**12)
        if kind == 2:
            return generator.uniform(-1, 1) * 10.0 ** generator.randrange(-30, 30)
        if kind < 6:
            return generator.choice(TRICKY)
        if kind == 6:
            return [value(depth - 1) for _ in range(generator.randrange(4))]
        return {generator.choice(TRICKY): value(depth - 1) for _ in range(generator.randrange(4))}

    tree = {f"key{index}": value(3) for index in range(20)}
    text = write(tree)

    assert parse(text, "a.yaml") == tree
    assert yaml.safe_load(text) == tree  # so that other people's tools read a run's configuration as we do
    assert write(parse(text, "a.yaml")) == text
