"""One file per scorer: how much a token matters."""
