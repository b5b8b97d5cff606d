"""What the search believes about policies before it tries them: their harm and their latency."""
