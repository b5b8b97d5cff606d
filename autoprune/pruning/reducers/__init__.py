"""One file per reducer: what happens to the tokens that leave."""
