"""Looking back: time travel and the audit trail."""
