"""Following: rows of the outbox, as the topic brings them or PostgreSQL keeps them, go into the views.

`consumer` receives and looks after the streams, `belief` says which messages are rows, `follower` takes one
stream's rows to the views as `state` says, and `backlog` holds those that wait.
"""
