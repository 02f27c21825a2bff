"""What fail2ban is configured to do, has banned and would ban: for `throttled migrate`."""
