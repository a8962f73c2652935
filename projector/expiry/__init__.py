"""What leaves the views: devices that are silent for long, and empty regions for which there is no room.

The views of both begin anew when they come back; PostgreSQL has everything, and a rebuild brings all of them
back. Whoever takes a view out leaves a version behind, so that a projector that remembers it reads it again.
"""
