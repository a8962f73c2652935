"""The write side: broker → PostgreSQL → internal topic."""
