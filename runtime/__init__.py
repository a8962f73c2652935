"""What any process of the house needs: MQTT, PostgreSQL, Redis, HTTP, logs, settings, lifecycle."""
