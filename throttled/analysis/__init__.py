"""What old logs and the store say: replay, suggestions for limits, reports, complaints."""
