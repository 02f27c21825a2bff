"""What old logs say: replay, and suggestions for limits."""
