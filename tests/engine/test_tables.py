"""Tables that a search makes: one per kind and task, from calibration texts alone, made once."""

import pytest

from autoprune._registry import SCORERS
from autoprune.config import SearchConfig
from autoprune.engine import tables as room
from autoprune.engine.events import Observer
from autoprune.engine.session import open_session
from autoprune.engine.tables import MADE, open_tables
from autoprune.pruning.methods import takes_table
from autoprune.store.repository import Store

SPACE = "version: 1\nname: mine\ninput: {scorers: [stopwords, frequency, surprisal, lexicon, truncate]}\n"


@pytest.fixture
def session(options, tmp_path):
    (tmp_path / "mine.yaml").write_text(SPACE)
    return open_session(SearchConfig.of(**options, seq_len=32, space=str(tmp_path / "mine.yaml")), Observer())


def test_every_scorer_that_reads_a_table_has_a_maker():
    assert {name for name in SCORERS.names() if takes_table(name)} == MADE


def test_tables_are_made_once_and_shared(session, options, monkeypatch):
    with Store.open(options["db"]) as store:
        tables, table_of = open_tables(session, store, Observer())
        monkeypatch.setattr(room, "count_ids", None)
        monkeypatch.setattr(room, "build_lexicon", None)
        again, known = open_tables(session, store, Observer())
    assert known == table_of
    assert set(table_of) == MADE
    assert table_of["frequency"] == table_of["surprisal"]
    assert set(again) == set(tables)
    for scorer, key in table_of.items():
        assert set(SCORERS.get(scorer).table_columns) == set(again[key])
    texts = session.task.calibration
    counted = int(again[table_of["frequency"]]["count"].sum())
    assert counted == sum(len(ids) for ids in session.task.tokenizer(list(texts), truncation=True)["input_ids"])


def test_a_tokenizer_without_english_words_takes_its_most_frequent_tokens(session, options):
    with Store.open(options["db"]) as store:
        tables, table_of = open_tables(session, store, Observer())
    flags = tables[table_of["stopwords"]]["stopword"]
    counts = tables[table_of["frequency"]]["count"]
    assert int(flags.sum()) == 100
    assert float(counts[flags == 1].min()) >= float(counts[flags == 0].max())
