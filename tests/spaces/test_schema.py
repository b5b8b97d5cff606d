import pytest

from autoprune.errors import ConfigError
from autoprune.spaces.schema import load_space_file, parse_space, shipped

GOOD = """\
version: 1
name: mine
stages:
  scorers: [random]
  reduce: [drop]
"""


def test_every_shipped_space_is_valid():
    assert "quick" in shipped()
    for name in shipped():
        assert load_space_file(name).name == name


def test_a_space_needs_little():
    space = parse_space(GOOD, "mine.yaml")
    assert space.stages is not None
    assert space.stages.scorers[0].label == "random"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("[random]", "[randon]", 4, "no scorer called 'randon'"),
        ("[drop]", "[dorp]", 5, "no reducer called 'dorp'"),
        ("name: mine", "name: mine\nspeed: 3", 3, "speed"),
        ("version: 1", "version: 2", 1, "version"),
        ("reduce: [drop]", "count: [3, 1]", 5, "lower bound 3 is above"),
    ],
)
def test_mistakes_name_the_line(old, new, line, words):
    with pytest.raises(ConfigError) as caught:
        parse_space(GOOD.replace(old, new), "mine.yaml")
    assert f"mine.yaml, line {line}:" in caught.value.message
    assert words in caught.value.message


def test_broken_yaml_is_one_sentence():
    with pytest.raises(ConfigError, match=r"no valid YAML"):
        parse_space("name: [", "mine.yaml")


def test_unknown_space_lists_the_known():
    with pytest.raises(ConfigError) as caught:
        load_space_file("qiuck")
    assert "quick" in caught.value.hint
