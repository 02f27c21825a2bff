"""From events to decisions: counting, limits, protection, the ladder. Pure."""
