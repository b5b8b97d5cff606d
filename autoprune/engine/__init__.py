"""The search: ask -> score -> time -> tell -> front -> verify -> result."""
