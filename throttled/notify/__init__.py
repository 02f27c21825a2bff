"""What others are reported of decisions and health: journal lines, commands, webhooks."""
