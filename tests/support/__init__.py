"""What the tests share beside fixtures: fresh databases, real processes under watch."""
