"""The model's side: what a network is made of, its stages and taps, teachers, queues and heads, terms, and ``attach``.

Nothing here may know a regularizer, a transform, a task, a trainer, a model zoo or data; mathematics lives in
``synreal.functional``.
"""
