"""What `throttled check` finds out. Each module yields `Finding`s; none of them owns state."""
