"""Behaviour suites and tiny models, for tests and plug-in authors."""
