"""Metric learning: from a folder of pictures to "who is this, and how sure are you?"."""
