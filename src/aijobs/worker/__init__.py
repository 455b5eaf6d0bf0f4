"""What runs inside Celery: in workers, and wherever tasks are sent from."""
