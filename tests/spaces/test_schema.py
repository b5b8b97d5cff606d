import pytest

from autoprune.errors import ConfigError
from autoprune.policy import Protect
from autoprune.spaces.schema import load_space_file, parse_space
from autoprune.spaces.space import Space

GOOD = """\
version: 1
name: mine
stages:
  scorers: [random]
  reduce: [drop]
"""
RICH = """\
version: 1
name: rich
input:
  scorers:
    - truncate
    - scorer: truncate
      params: {side: both}
stages:
  scorers:
    - cls_attention
  reduce:
    - reduce: energy_merge
      params: {margin: 0.3}
  layers: [1, -1]
protect:
  prefix: 3
axes:
  - axis: protect_prefix
    values:
      - 1
      - 4
"""


def test_a_space_needs_little():
    space = parse_space(GOOD, "mine.yaml")
    assert space.stages is not None
    assert space.stages.scorers[0].label == "random"
    assert space.stages.schedule == ["curved"]
    assert space.stages.select == space.input.select == ["keep"]


def test_parameters_protection_and_axes_reach_the_policy():
    space = Space(parse_space(RICH, "rich.yaml"), 6)
    params = {"input.scorer": "truncate(side=both)", "stages.count": 1, "axes.protect_prefix": 4}
    policy = space.shape(params).policy(1.0, {})
    assert [(s.layer, s.scorer, s.reduce) for s in policy.stages] == [
        ("input", "truncate", "drop"),
        (1, "cls_attention", "energy_merge"),
    ]
    assert dict(policy.stages[0].params) == {"side": "both"}
    assert dict(policy.stages[1].reduce_params) == {"margin": 0.3}
    assert policy.protect == Protect(prefix=4)
    assert Space(parse_space(RICH.split("axes:")[0], "rich.yaml"), 6).shape(params).policy(1.0, {}).protect.prefix == 3


def test_rounding_and_place_reach_the_policy():
    text = GOOD.replace("reduce: [drop]", "multiple: [4, 8]\n  where: [after_attention]\n  count: [2, 2]")
    space = Space(parse_space(text, "mine.yaml"), 6)
    policy = space.shape({"stages.multiple": 8}).policy(1.0, {})
    assert [(stage.multiple, stage.where) for stage in policy.stages] == [(8, "after_attention")] * 2
    assert "stages.where" not in space.distributions()


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("[random]", "[randon]", 4, "no scorer called 'randon'"),
        ("[random]", "[random, random]", 4, "random is listed twice"),
        ("[drop]", "[dorp]", 5, "no reducer called 'dorp'"),
        ("name: mine", "name: mine\nspeed: 3", 3, "speed"),
        ("version: 1", "version: 2", 1, "version"),
        ("reduce: [drop]", "count: [3, 1]", 5, "lower bound 3 is above"),
        ("reduce: [drop]", "layers: [4, 2]", 5, "first layer 4 is behind"),
        ("reduce: [drop]", "schedule: [cosine]", 5, "schedule"),
        ("reduce: [drop]", "multiple: [0]", 5, "multiple"),
        ("reduce: [drop]", "multiple: [8, 8]", 5, "8 is listed twice"),
        ("reduce: [drop]", "where: [after]", 5, "where"),
        ("reduce: [drop]", "select: [keep, top]", 5, "'keep', 'threshold' or 'mass'"),
        ("reduce: [drop]", "select: [mass, mass]", 5, "mass is listed twice"),
        ("reduce: [drop]", "select: []", 5, "select"),
        ("stages:", "input: {scorers: [truncate], select: [cut]}\nstages:", 3, "'keep', 'threshold' or 'mass'"),
        ("[random]\n", "[cls_attention]\n  layers: [0, 3]\n", 3, "must begin at 1"),
        ("stages:", "share: [0.9, 0.5]\nstages:", 3, "lower bound 0.9 is above"),
        ("stages:", "input: {scorers: [norm]}\nstages:", 3, "looks inside the model"),
        ("stages:", "protect: {prefix: -1}\nstages:", 3, "prefix"),
        ("stages:", "protect:\n  prefix: 1\n  pattern: '['\nstages:", 5, "no regular expression"),
        ("stages:", "axes:\n  - {axis: dtype, values: [float32]}\nstages:", 4, "search once per --dtype"),
        ("stages:", "axes:\n  - {axis: depth, values: [3]}\nstages:", 4, "no axis called 'depth'"),
        ("stages:", "axes:\n  - axis: protect_prefix\n    values: [1, x]\nstages:", 5, "whole number from 0, not 'x'"),
    ],
)
def test_mistakes_name_the_line(old, new, line, words):
    with pytest.raises(ConfigError) as caught:
        parse_space(GOOD.replace(old, new), "mine.yaml")
    assert f"mine.yaml, line {line}:" in caught.value.message
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("side: both", "side: middle", 7, "must be one of 'head', 'tail', 'both'"),
        ("side: both", "end: both", 7, "no parameter 'end'"),
        ("margin: 0.3", "margin: 2", 13, "from 0 to 0.95"),
        ("      - 4", "      - -4", 19, "not -4"),
    ],
)
def test_mistakes_in_parameters_name_the_line(old, new, line, words):
    with pytest.raises(ConfigError) as caught:
        parse_space(RICH.replace(old, new), "rich.yaml")
    assert f"rich.yaml, line {line}:" in caught.value.message
    assert words in caught.value.message


def test_broken_yaml_is_one_sentence():
    with pytest.raises(ConfigError, match=r"no valid YAML"):
        parse_space("name: [", "mine.yaml")


@pytest.mark.parametrize("text", ["", "- 1\n", "just words"])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(ConfigError, match=r"mine.yaml, line 1"):
        parse_space(text, "mine.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_space_file(str(tmp_path / "mine.yaml"))


def test_unknown_space_lists_the_known():
    with pytest.raises(ConfigError) as caught:
        load_space_file("qiuck")
    assert "quick" in caught.value.hint
