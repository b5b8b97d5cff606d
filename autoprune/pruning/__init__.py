"""The pruning room: a policy carried through a transformers model, tokens really removed."""

from autoprune.pruning.attach import Handle, attach, attached_handle
from autoprune.pruning.families import FAMILIES, Family, family_of
from autoprune.pruning.lexicon import build_lexicon
from autoprune.pruning.protect import protected_count
from autoprune.pruning.tables import TableSet, table_key
from autoprune.pruning.trace import StageTrace, Trace
from autoprune.pruning.twin import twin

__all__ = [
    "FAMILIES",
    "Family",
    "Handle",
    "StageTrace",
    "TableSet",
    "Trace",
    "attach",
    "attached_handle",
    "build_lexicon",
    "family_of",
    "protected_count",
    "table_key",
    "twin",
]
