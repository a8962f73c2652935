"""What people say devices are: names, labels, how often each should send; and who was never heard.

It stands in PostgreSQL, where `gateway devices` puts it; `reader` follows it there, `book` keeps it in memory
for everybody who shows devices, and a copy in Redis is for those who show them without a projector.
"""
