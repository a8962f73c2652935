"""A private mosquitto, PostgreSQL and Redis on this machine, for the demo, the tests and the benchmarks.

`python -m deploy.local` starts them and prints how to reach them.
"""
