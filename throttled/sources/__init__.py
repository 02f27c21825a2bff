"""Where events come from: logs, handshakes that the kernel counted, Postfix's policy requests."""
