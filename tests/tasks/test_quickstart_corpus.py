"""The corpus builder on a made-up site-packages folder."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from autoprune.errors import AssetError
from autoprune.tasks.quickstart import corpus
from autoprune.tasks.quickstart.docstrings import NearDuplicates, clean, read_docstrings
from autoprune.tasks.quickstart.libraries import LIBRARIES, Library, name_pattern

LIBS = (Library("alphalib", "alphalib", ("alphalib",), ("al",)), Library("ray", "ray", ("rllib",), ("ray",)))
QUOTAS = {"heldout": 12, "calibration": 6, "train": 20}
SHARED = "This very text was copied from one project to the next and stands in both of them word by word. " * 4


def sentence(rng: random.Random) -> str:
    return " ".join(f"word{rng.randrange(4000)}" for _ in range(40))


@pytest.fixture
def site(tmp_path: Path) -> dict[str, Path]:
    rng = random.Random(0)
    for library in LIBS:
        for i in range(40):
            path = tmp_path / library.package / f"part{i % 4}" / f"module{i}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            functions = "\n".join(
                f'def f{k}():\n    """Use {library.name} or Ray. {sentence(rng)}"""' for k in range(3)
            )
            path.write_text(f'"""{SHARED}"""\n{functions}\ndef short():\n    """Too short for {library.name}."""\n')
        tests = tmp_path / library.package / "tests" / "test_it.py"
        tests.parent.mkdir()
        tests.write_text(f'"""Only the tests say zebra. {sentence(rng)}"""')
        (tmp_path / library.package / "broken.py").write_text("def (:")
        (tmp_path / library.package / "latin.py").write_bytes(b'"""\xe9\xff"""')
    return {library.name: tmp_path / library.package for library in LIBS}


def test_quotas_labels_and_sources(site):
    splits = corpus.build(site, LIBS, QUOTAS)

    for split, quota in QUOTAS.items():
        assert Counter(e.label for e in splits[split]) == {0: quota, 1: quota}
        assert all(e.source.startswith(LIBS[e.label].package) for e in splits[split])
        assert all(len(e.text) > 200 for e in splits[split])


def test_no_source_file_and_no_near_duplicate_stands_in_two_splits(site):
    splits = corpus.build(site, LIBS, QUOTAS)
    everything = [e for split in splits.values() for e in split]

    sources = [{e.source for e in split} for split in splits.values()]
    assert not sources[0] & sources[1]
    assert not sources[0] & sources[2]
    assert not sources[1] & sources[2]
    assert sum("This very text was copied" in e.text for e in everything) <= 1
    index = NearDuplicates()
    assert all(index.accept(e.text) for e in everything)


def test_names_are_blanked_and_tests_skipped(site):
    texts = [e.text for split in corpus.build(site, LIBS, QUOTAS).values() for e in split]

    assert not any("alphalib" in text.lower() or "Ray" in text for text in texts)
    assert not any("zebra" in text for text in texts)


def test_held_out_texts_do_not_depend_on_whether_training_texts_are_drawn(site):
    some = corpus.build(site, LIBS, {"heldout": 12, "calibration": 6})

    assert corpus.build(site, LIBS, QUOTAS)["heldout"] == some["heldout"]


def test_a_small_library_gives_what_it_has(site):
    splits = corpus.build(site, LIBS, {"heldout": 10_000})

    assert 0 < len(splits["heldout"]) < 300


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Use pandas.DataFrame or pd.Series", "Use .DataFrame or .Series"),
        ("An array, arrays and Ray", "An array, arrays and"),
        ("raise RayActorError, ray.init()", "raise ActorError, .init()"),
        ("``sklearn.svm`` in scikit-learn", "``.svm`` in"),
        ("HuggingFace Transformers transform", "transform"),
        ("a SQLAlchemy engine; sa.Column; visa", "a engine; .Column; visa"),
        ("sphinx and nx.Graph", "sphinx and .Graph"),
    ],
)
def test_blanking(text, expected):
    assert clean(text, name_pattern(LIBRARIES)) == expected


def test_docstrings_of_modules_classes_and_functions(tmp_path):
    long = "x" * 300
    path = tmp_path / "m.py"
    path.write_text(
        f'"""M{long}"""\nclass A:\n    """A{long}"""\n    def f(self):\n        """F{long}"""\n'
        f'async def g():\n    """G{long}"""\n"""a string that is no docstring {long}"""\n'
    )

    assert sorted(text[0] for text in read_docstrings(path)) == ["A", "F", "G", "M"]


def test_near_duplicates_differ_by_a_few_words_or_contain_each_other():
    rng = random.Random(1)
    text = sentence(rng)
    index = NearDuplicates()

    assert index.accept(text)
    assert not index.accept(text.replace("word", "WORD") + " more")
    assert not index.accept(f"{sentence(rng)} {text}")  # longer, but holds it whole
    assert index.accept(sentence(rng))


class TestCache:
    @pytest.fixture(autouse=True)
    def fake_libraries(self, site, monkeypatch, tmp_path):
        monkeypatch.setattr(corpus, "LIBRARIES", LIBS)
        monkeypatch.setattr(Library, "root", lambda self: site[self.name])
        monkeypatch.setattr(Library, "version", lambda self: "1.0")
        monkeypatch.setenv("AUTOPRUNE_CACHE_DIR", str(tmp_path / "cache"))
        self.folder = tmp_path / "cache" / "quickstart"

    def test_the_second_load_reads_no_sources(self, monkeypatch):
        steps = []
        first = corpus.load(steps.append)
        monkeypatch.setattr(corpus, "build", lambda *a, **k: pytest.fail("built again"))

        assert corpus.load() == first
        assert len(steps) == 4
        assert [path.suffix for path in self.folder.iterdir()] == [".json"]

    def test_a_damaged_cache_is_built_again(self):
        first = corpus.load()
        (path,) = self.folder.iterdir()
        data = json.loads(path.read_text())
        data["splits"]["heldout"][0][0] = "changed by hand"
        for damaged in (json.dumps(data), "{", "[]"):
            path.write_text(damaged)
            assert corpus.load() == first

    def test_another_version_of_a_library_has_its_own_corpus(self, monkeypatch):
        first = corpus.load()
        monkeypatch.setattr(Library, "version", lambda self: "2.0")

        assert corpus.load().versions != first.versions
        assert len(list(self.folder.iterdir())) == 2

    def test_a_library_without_docstrings_is_named(self, site):
        for path in site["ray"].rglob("*.py"):
            path.write_text("")

        with pytest.raises(AssetError, match="sources of ray hold no docstrings"):
            corpus.load()


def test_a_library_that_is_not_installed_is_named():
    with pytest.raises(AssetError, match="docstrings of nowhere, which is not installed"):
        Library("nowhere", "no_such_package_anywhere", ()).root()
