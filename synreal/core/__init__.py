"""The model's side: stages, taps, teachers, queues and heads, what a term is, and ``attach``."""
