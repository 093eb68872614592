"""Alerts: findings of connections, folded by device, kind, domain and day. Pure."""
