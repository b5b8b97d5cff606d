"""One file per axis of a space beyond its stages."""
