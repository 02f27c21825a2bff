"""Mail servers, who talks to them, and their logs."""
