"""What the two wings agree on: events and topics. Pure; nothing here does I/O."""
