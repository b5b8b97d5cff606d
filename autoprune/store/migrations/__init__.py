"""Schema migrations, one file per released schema."""
