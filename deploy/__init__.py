"""Ways to run it: containers (`compose.yaml`) and servers on this machine (`local`)."""
