"""The read side: internal topic → Redis → HTTP."""
