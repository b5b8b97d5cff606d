"""The command line: Click and the standard library at import, everything else inside the commands."""
