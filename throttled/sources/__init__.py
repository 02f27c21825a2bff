"""Where events come from: logs, and completed connections counted by the kernel."""
