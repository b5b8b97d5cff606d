"""The small classifier and data set of the engine's tests."""

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("engine_conftest", Path(__file__).parents[1] / "engine" / "conftest.py")
assert _SPEC is not None
assert _SPEC.loader is not None
_engine = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_engine)
options, small_data, small_model = _engine.options, _engine.small_data, _engine.small_model
