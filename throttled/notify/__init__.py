"""What others are told of decisions and health: journal lines, commands, webhooks."""
