"""The files that a team needs to run its app in containers, made from its Celery app and a small spec."""
