"""What `throttled check` finds out. Each module yields `Problem`s; none of them owns state."""
