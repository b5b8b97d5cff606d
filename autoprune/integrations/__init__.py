"""Front doors for users of other tools; each drives the same engine and writes the same database."""
